"""Another key's time to its first token, undisturbed and under each attack, on a real service.

Coordinator, provider and attacker are processes of this machine. The attacker runs at the lowest
priority: what is measured is what it does to the service, not that it takes a core.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks.attacks import keys, strangers
from benchmarks.attacks.target import Target, says
from benchmarks.processes import child
from tandem.bench import HOST, Consumer, running_service
from tandem.errors import ProtocolError
from tandem.runtime import raise_descriptor_limit

Attack = Callable[[Target], Coroutine[None, None, None]]

ATTACKS: dict[str, Attack] = {
    attack.__name__.replace("_", " "): attack
    for attack in (
        *(strangers.idle_connections, strangers.endless_header, strangers.many_headers),
        *(strangers.bodies_without_a_key, strangers.frames_of_a_stranger, strangers.garbage),
        *(keys.poisoned_estimates, keys.endless_prompts, keys.waiting_prompts, keys.empty_objects),
        *(keys.slow_readers, keys.many_samples, keys.many_requests, keys.costly_sampling),
    )
}
#: What must hold.
MAX_RATIO, MAX_MEMORY_MB = 3.0, 400.0

_MODEL = "tandem-demo"
_PAUSE_S = 0.05
#: The attack has begun by then.
_HEAD_START_S = 1.0
_ANSWER_TIMEOUT_S = 20.0


class Outcome(msgspec.Struct, frozen=True):
    """`ratio` is between the medians; `failed` counts requests without a token in 20 s."""

    attack: str
    alone_ms: float
    under_ms: float
    worst_ms: float
    asked: int
    failed: int
    memory_mb: float

    @property
    def ratio(self) -> float:
        return self.under_ms / self.alone_ms

    @property
    def holds(self) -> bool:
        return self.failed == 0 and self.ratio < MAX_RATIO and self.memory_mb < MAX_MEMORY_MB


async def measure_attack(name: str, seconds: float) -> Outcome:
    """A service of its own for each: so many seconds alone, and as many under attack."""
    with tempfile.TemporaryDirectory(prefix="tandem-attack-") as folder:
        async with running_service(Path(folder)) as service:
            attacker, victim = service.create_keys(2)
            await service.start_provider("home", [f"--model={_MODEL}", "--threads=1"])
            await service.until_routable(1, victim)
            asks = _Victim(service.port, victim)
            await asks.during(seconds / 4)  # warms up
            alone = await asks.during(seconds)
            memory = _Memory(service.processes["coordinator"])
            target = Target(HOST, service.port, attacker, _MODEL)
            with child(_attack, name, target):
                await asyncio.sleep(_HEAD_START_S)
                async with memory.watched():
                    under = await asks.during(seconds)
    before, during = (statistics.median(times) * 1000 for times in (alone, under))
    return Outcome(
        name, before, during, max(under) * 1000, len(under), asks.failed, memory.peak_bytes / 2**20
    )


class _Memory:
    """The most that a process has held."""

    def __init__(self, pid: int) -> None:
        self.peak_bytes = 0
        self._process = psutil.Process(pid)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        watch = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watch.cancel()

    async def _watch(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self._process.memory_info().rss)
            await asyncio.sleep(0.02)


class _Victim:
    """Asks one short question after the other, each on a connection of its own."""

    def __init__(self, port: int, key: str) -> None:
        self.failed = 0
        self._port, self._key = port, key

    async def during(self, seconds: float) -> list[float]:
        """Times to the first token, in seconds."""
        loop = asyncio.get_running_loop()
        times: list[float] = []
        until = loop.time() + seconds
        while loop.time() < until or not times:
            try:
                async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                    times.append(await self._ask())
            except (OSError, ProtocolError, TimeoutError):
                self.failed += 1
                times.append(_ANSWER_TIMEOUT_S)
            await asyncio.sleep(_PAUSE_S)
        return times

    async def _ask(self) -> float:
        consumer = Consumer(HOST, self._port, self._key, trace=False)
        request: dict[str, Any] = {"model": _MODEL, "messages": says("What is 3 + 4?")}
        try:
            return (await consumer.ask(request | {"max_tokens": 8})).first_s
        finally:
            consumer.close()


def _attack(name: str, target: Target, say: Callable[[object], None]) -> None:
    """For `child`: attacks until it is ended."""
    os.nice(19)
    raise_descriptor_limit()
    say("attacking")
    asyncio.run(ATTACKS[name](target))
