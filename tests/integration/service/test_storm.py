"""Providers are killed at random under real streams: nobody notices, and the bill is exact."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai import AsyncOpenAI
from tests.integration.running import DEADLINE_S, outside_settings

from tandem.coordinator import KeyStore, entries, load_or_create_join_token

STREAMS, PROVIDERS = 20, 3
KILL_EVERY_S, STORM_S = 3.0, 120.0
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


async def start(arguments: list[str], join_token: str) -> tuple[Process, dict[str, Any]]:
    """A process, and the JSON line with which it says that it is up."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tandem",
        *arguments,
        "--json",
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=DEVNULL,
        env={**outside_settings(), "TANDEM_JOIN_TOKEN": join_token},
    )
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        line = await process.stdout.readline()
    return process, json.loads(line or "{}")


class Fleet:
    """Providers that are started again as soon as they have died."""

    def __init__(self, directory: Path, port: int, join_token: str) -> None:
        self._directory = directory
        self._port = port
        self._join_token = join_token
        self.alive: dict[int, Process] = {}
        self.kills = 0

    async def keep(self, number: int, up: asyncio.Event) -> None:
        while True:
            process, _ = await start(
                [
                    "provider",
                    f"--coordinator=localhost:{self._port}",
                    f"--name=provider-{number}",
                    f"--data-dir={self._directory / str(number)}",
                    "--threads=1",
                    "--kv-tokens=8192",
                    "--dtype=float32",
                ],
                self._join_token,
            )
            self.alive[number] = process
            up.set()
            try:
                await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                del self.alive[number]

    async def storm(self, seed: int) -> None:
        draw = random.Random(seed)
        while True:
            await asyncio.sleep(KILL_EVERY_S)
            if self.alive:
                victim = draw.choice(sorted(self.alive))
                os.kill(self.alive[victim].pid, signal.SIGKILL)
                self.kills += 1


@asynccontextmanager
async def service(directory: Path) -> AsyncIterator[tuple[Fleet, AsyncOpenAI]]:
    store = KeyStore(directory)
    key = store.create("storm").key
    store.close()
    join_token = load_or_create_join_token(directory)
    arguments = ["coordinator", "--port=0", f"--data-dir={directory}", "--patience=60"]
    coordinator, listening = await start(arguments, join_token)
    port = listening["port"]
    fleet = Fleet(directory, port, join_token)
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        ups = [asyncio.Event() for _ in range(PROVIDERS)]
        keepers = [tasks.create_task(fleet.keep(n, up)) for n, up in enumerate(ups)]
        for up in ups:
            await up.wait()
        async with AsyncOpenAI(
            base_url=f"http://127.0.0.1:{port}/v1", api_key=key, timeout=DEADLINE_S, max_retries=0
        ) as client:
            yield fleet, client
        for keeper in keepers:
            keeper.cancel()
    coordinator.send_signal(signal.SIGTERM)
    assert await coordinator.wait() == 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nobody_notices_a_storm_of_kills(tmp_path: Path) -> None:
    """C9, with a provider killed every three seconds for two minutes under twenty streams."""

    async def main() -> list[Answer]:
        given: list[Answer] = []
        async with service(tmp_path) as (fleet, client):
            calm = await asyncio.gather(*(stream(client, n) for n in range(STREAMS)))
            given += calm
            storm = asyncio.create_task(fleet.storm(seed=1))
            ends = asyncio.get_running_loop().time() + STORM_S

            async def again_and_again(number: int) -> None:
                while asyncio.get_running_loop().time() < ends:
                    answer = await stream(client, number)
                    given.append(answer)
                    assert answer == calm[number]

            async with asyncio.TaskGroup() as tasks:
                for number in range(STREAMS):
                    tasks.create_task(again_and_again(number))
            storm.cancel()
            assert fleet.kills > 20
        return given

    given = asyncio.run(main())
    rows = entries(tmp_path, limit=100_000)
    assert len(rows) == len(given) > 3 * STREAMS
    assert {row.outcome for row in rows} == {"completed"}
    assert sum(row.prompt_tokens for row in rows) == sum(a.prompt_tokens for a in given)
    assert sum(row.completion_tokens for row in rows) == sum(a.completion_tokens for a in given)
    moved = sum(row.attempts > 1 for row in rows)
    assert moved > 10
