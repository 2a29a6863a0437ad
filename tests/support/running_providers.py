"""A coordinator and providers as processes of their own; providers start again when they end."""

from __future__ import annotations

import asyncio
import signal
import ssl
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from openai import AsyncOpenAI
from tests.support.running_up import outside_settings
from tests.support.stores import create_key
from tests.support.waiting import DEADLINE_S

from tandem.coordinator import KeyRole, load_or_create_join_token
from tandem.up import (
    STOP_WITH_PARENT,
    ChildEvent,
    Listening,
    first_event,
    start_process,
    tandem_command,
)

MODEL = "tandem-demo"


class Answer(msgspec.Struct, frozen=True):
    text: str
    prompt_tokens: int
    completion_tokens: int


def request(number: int) -> dict[str, Any]:
    """Greedy and sampled ones, of different lengths, some with a stop string or penalties."""
    kinds: list[dict[str, Any]] = [
        {"temperature": 0},
        {"temperature": 1.2, "seed": number},
        {"temperature": 0.9, "seed": number, "frequency_penalty": 0.4, "presence_penalty": 0.2},
        {"temperature": 0, "stop": ["1" + str(number % 7) + ","]},
    ]
    return {
        "model": MODEL,
        "messages": [{"role": "user", "content": f"Count to {30 + number}."}],
        "max_tokens": 60 + 7 * (number % 9),
        **kinds[number % len(kinds)],
    }


async def stream(client: AsyncOpenAI, number: int) -> Answer:
    chunks = await client.chat.completions.create(
        **request(number), stream=True, stream_options={"include_usage": True}
    )
    text, usage = "", None
    async for chunk in chunks:
        usage = chunk.usage or usage
        text += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert usage is not None
    return Answer(text, usage.prompt_tokens, usage.completion_tokens)


class Fleet:
    """`scheme` and `ca` are for a coordinator with TLS."""

    def __init__(
        self, directory: Path, options: Sequence[str], scheme: str, ca: Path | None
    ) -> None:
        self.directory = directory
        self.alive: dict[int, Process] = {}
        self._options = options
        self._scheme = scheme
        self._ca = ca
        self._port = 0
        self._join_token = load_or_create_join_token(directory)
        self.key = create_key(directory, "fleet", role=KeyRole.OPERATOR)

    @property
    def url(self) -> str:
        return f"{self._scheme}://localhost:{self._port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    async def start_coordinator(self) -> None:
        """On the same port as the last one."""
        arguments = [
            "coordinator",
            f"--port={self._port}",
            f"--data-dir={self.directory}",
            "--patience=60",
            *self._options,
        ]
        self.coordinator, listening = await self._start(arguments)
        assert isinstance(listening, Listening)
        self._port = listening.port

    async def stop_coordinator(self) -> None:
        self.coordinator.send_signal(signal.SIGTERM)
        assert await self.coordinator.wait() == 0

    async def keep(self, number: int) -> None:
        while True:
            process, _ = await self._start(
                [
                    "provider",
                    f"--coordinator={self.url}",
                    f"--name=provider-{number}",
                    f"--data-dir={self.directory / str(number)}",
                    "--threads=1",
                    "--device=cpu",
                    "--kv-tokens=8192",
                    "--dtype=float32",
                ]
            )
            self.alive[number] = process
            try:
                await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                del self.alive[number]

    async def until_routable(self, count: int) -> None:
        async with self.http() as http, asyncio.timeout(DEADLINE_S):
            while True:
                models = (await http.get("/v1/models/capacity")).json()["data"]
                if sum(model["routable_providers"] for model in models) == count:
                    return
                await asyncio.sleep(0.05)  # so as not to take a core from those that start

    async def tandem(self, *arguments: str) -> int:
        """The exit code of another command."""
        process = await asyncio.create_subprocess_exec(
            *tandem_command(*arguments), stdin=DEVNULL, stdout=DEVNULL
        )
        return await process.wait()

    def http(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=self.url,
            headers=self.headers,
            timeout=DEADLINE_S,
            verify=self._ca is None or ssl.create_default_context(cafile=self._ca),
        )

    def client(self) -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key=self.key, timeout=DEADLINE_S, max_retries=0
        )

    async def _start(self, arguments: list[str]) -> tuple[Process, ChildEvent | None]:
        """A process, and how it says that it is up."""
        environment = {**outside_settings(), "TANDEM_JOIN_TOKEN": self._join_token}
        if self._ca is not None:
            environment["SSL_CERT_FILE"] = str(self._ca)
        process = await start_process(
            tandem_command(*arguments, "--json", STOP_WITH_PARENT),
            environment=environment,
            stderr=DEVNULL,
        )
        try:
            async with asyncio.timeout(DEADLINE_S):
                event = await first_event(process)
        except BaseException:
            process.kill()
            await process.wait()
            raise
        return process, event


@asynccontextmanager
async def running_fleet(
    directory: Path,
    providers: int,
    *,
    options: Sequence[str] = (),
    scheme: str = "http",
    ca: Path | None = None,
) -> AsyncIterator[Fleet]:
    fleet = Fleet(directory, options, scheme, ca)
    await fleet.start_coordinator()
    try:
        async with asyncio.TaskGroup() as tasks:
            keepers = [tasks.create_task(fleet.keep(number)) for number in range(providers)]
            await fleet.until_routable(providers)
            yield fleet
            for keeper in keepers:
                keeper.cancel()
    finally:
        await fleet.stop_coordinator()
