"""A coordinator and providers as processes of their own, as an operator would start them."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path

import httpx2

from tandem.coordinator import load_or_create_join_token, stores_in
from tandem.errors import TandemError
from tandem.up import (
    STOP_WITH_PARENT,
    ChildEvent,
    Listening,
    first_event,
    pair_local_nodes,
    start_process,
    tandem_command,
)

_START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 15.0
HOST = "127.0.0.1"


class BenchmarkFailed(TandemError):
    """What was to be measured did not run."""

    code = "benchmark_failed"


class Service:
    """Made by `running_service`. Processes stay until the service ends, or `kill` ends them."""

    def __init__(self, folder: Path, processes: AsyncExitStack) -> None:
        self._folder = folder
        self._processes = processes
        self._join_token = load_or_create_join_token(folder)
        self._running: dict[str, Process] = {}
        self.port = 0

    @property
    def processes(self) -> dict[str, int]:
        """Process ids by name."""
        return {name: process.pid for name, process in self._running.items()}

    def create_keys(self, count: int) -> list[str]:
        with closing(stores_in(self._folder).keys()) as keys:
            return [keys.create(f"user-{number}").key for number in range(count)]

    async def start_coordinator(self) -> None:
        listening = await self._start(
            "coordinator", ["coordinator", "--port=0", f"--data-dir={self._folder}"]
        )
        assert isinstance(listening, Listening), "what a coordinator says"
        self.port = listening.port

    async def start_provider(self, name: str, options: Sequence[str]) -> None:
        """Returns once it is ready. Raises BenchmarkFailed when it ends before."""
        arguments = [
            "provider",
            f"--coordinator=http://{HOST}:{self.port}",
            f"--name={name}",
            f"--data-dir={self._home(name)}",
            *options,
        ]
        await self._start(name, arguments)

    def pair(self, names: Sequence[str]) -> None:
        """The ranks of one cluster know each other."""
        pair_local_nodes({name: self._home(name) for name in names})

    async def kill(self, name: str) -> None:
        """As a power cut would end it."""
        process = self._running[name]
        process.kill()
        await process.wait()

    async def until_routable(self, providers: int, key: str) -> None:
        """Raises BenchmarkFailed when so many providers do not become ready in time."""
        until = time.monotonic() + _START_TIMEOUT_S
        url, headers = f"http://{HOST}:{self.port}", {"Authorization": f"Bearer {key}"}
        async with httpx2.AsyncClient(base_url=url, headers=headers) as http:
            while time.monotonic() < until:
                models = (await http.get("/v1/models/capacity")).json()["data"]
                if sum(model["routable_providers"] for model in models) == providers:
                    return
                await asyncio.sleep(0.05)  # so as not to take a core from those that start
        raise BenchmarkFailed(f"not {providers} providers were ready in {_START_TIMEOUT_S:g} s")

    def _home(self, name: str) -> Path:
        return self._folder / "nodes" / name

    async def _start(self, name: str, arguments: Sequence[str]) -> ChildEvent:
        """A process, and the event by which it says that it is up."""
        log_path = self._folder / f"{name}.log"
        with log_path.open("ab") as log:
            process = await start_process(
                tandem_command(*arguments, "--json", STOP_WITH_PARENT),
                environment={**os.environ, "TANDEM_JOIN_TOKEN": self._join_token},
                stderr=log,
            )
        self._processes.push_async_callback(_end, process)
        self._running[name] = process
        async with asyncio.timeout(_START_TIMEOUT_S):
            event = await first_event(process)
        if event is None:
            tail = log_path.read_text("utf-8", "replace").splitlines()[-5:]
            raise BenchmarkFailed("\n".join([f"{name} ended while starting:", *tail]))
        return event


@asynccontextmanager
async def running_service(folder: Path) -> AsyncIterator[Service]:
    """A coordinator, and whatever providers are started; all have ended when the context has."""
    async with AsyncExitStack() as processes:
        service = Service(folder, processes)
        await service.start_coordinator()
        yield service


async def _end(process: Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
