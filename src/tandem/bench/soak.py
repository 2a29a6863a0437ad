"""A service under load for as long as wanted: does anything grow that should not?

A coordinator and a two-rank cluster, and consumers that never pause: streams and whole answers,
with prompts that are new and prompts that are known, consumers who leave in mid-stream, and
requests that are wrong. Memory, open files and threads of every process are read as it goes.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from tandem.bench.scenario_runner import create_models, providers_running, words
from tandem.bench.scenarios import Scenario
from tandem.bench.service import HOST, Service, running_service
from tandem.bench.streams import Consumer
from tandem.errors import ProtocolError, TandemError

_SCENARIO = Scenario(
    name="soak",
    providers=1,
    users=4,
    requests=0,
    concurrency=8,
    tokens=32,
    ranks=2,
    parallelism="tp",
)
_KINDS = 10
_LEAVES, _WRONG, _KNOWN = 0, 1, (2, 3, 4)
_STAYS_S = 0.05
_SAMPLES = 60
#: The first part of the time caches fill; what comes after is compared with the end.
_WARM, _PART = 0.4, 0.2
#: What may be more at the end: a part of it, and as many (MiB, files, threads).
_TOLERATED, _NOISE = 0.03, 3.0
_MIB = 1024 * 1024


class Growth(msgspec.Struct, frozen=True):
    """Medians of the time after warming up, and of the end."""

    process: str
    #: `memory_mib`, `files` or `threads`.
    measure: str
    early: float
    late: float

    @property
    def passed(self) -> bool:
        return self.late <= self.early * (1 + _TOLERATED) + _NOISE


class SoakReport(msgspec.Struct, frozen=True):
    seconds: float
    requests: int
    failures: list[str]
    growth: list[Growth]

    @property
    def passed(self) -> bool:
        return not self.failures and all(one.passed for one in self.growth)


class _Sample(msgspec.Struct, frozen=True):
    memory_mib: float
    files: float
    threads: float


async def run_soak(seconds: float, on_progress: Callable[[float], None]) -> SoakReport:
    """`on_progress` is told how many seconds have passed. Raises BenchmarkFailed."""
    async with _serving() as (service, keys, model):
        consumers = _Consumers(service.port, keys, model, time.monotonic() + seconds)
        async with asyncio.TaskGroup() as tasks:
            for number in range(_SCENARIO.concurrency):
                tasks.create_task(consumers.consume(number))
            samples = await _watch(service.processes, seconds, on_progress)
    return SoakReport(seconds, consumers.requests, consumers.failures, _growth(samples))


@asynccontextmanager
async def _serving() -> AsyncIterator[tuple[Service, list[str], str]]:
    """A service that is ready, its consumers' keys, and its model's name."""
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        models = create_models(Path(folder) / "models")
        async with running_service(Path(folder)) as service:
            keys = service.create_keys(_SCENARIO.users)
            async with providers_running(service, _SCENARIO, models):
                await service.until_routable(1, keys[0])
                yield service, keys, models.first.name


class _Consumers:
    """They never pause until the time is over, and count what failed that should not have."""

    def __init__(self, port: int, keys: list[str], model: str, until: float) -> None:
        self.requests = 0
        self.failures: list[str] = []
        self._port, self._keys, self._model, self._until = port, keys, model, until

    async def consume(self, number: int) -> None:
        """One of them, with its requests one after the other."""
        key = self._keys[number % len(self._keys)]
        while time.monotonic() < self._until:
            self.requests += 1
            consumer = Consumer(HOST, self._port, key, trace=False)
            try:
                await self._ask(consumer, self.requests)
            except (TandemError, OSError) as error:
                self.failures.append(str(error))
            finally:
                consumer.close()

    async def _ask(self, consumer: Consumer, number: int) -> None:
        kind = number % _KINDS
        request = self._request(kind, number)
        if kind == _LEAVES:
            with suppress(TimeoutError):  # as intended
                async with asyncio.timeout(_STAYS_S):
                    await consumer.ask(request)
        elif kind == _WRONG:
            with suppress(ProtocolError):  # as intended
                await consumer.ask(request | {"max_tokens": -1})
                self.failures.append("a wrong request was answered")
        else:
            await consumer.ask(request, stream=kind % 2 == 0)

    def _request(self, kind: int, number: int) -> dict[str, Any]:
        text = words("known" if kind in _KNOWN else str(number), 400)
        return {
            "model": self._model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": _SCENARIO.tokens,
            "ignore_eos": True,
        }


async def _watch(
    processes: dict[str, int], seconds: float, on_progress: Callable[[float], None]
) -> dict[str, list[_Sample]]:
    watched = {name: psutil.Process(pid) for name, pid in processes.items()}
    samples: dict[str, list[_Sample]] = {name: [] for name in watched}
    for number in range(1, _SAMPLES + 1):
        await asyncio.sleep(seconds / _SAMPLES)
        for name, process in watched.items():
            memory = process.memory_info().rss / _MIB
            samples[name].append(_Sample(memory, process.num_fds(), process.num_threads()))
        on_progress(seconds * number / _SAMPLES)
    return samples


def _growth(samples: dict[str, list[_Sample]]) -> list[Growth]:
    start, part = int(_SAMPLES * _WARM), int(_SAMPLES * _PART)
    return [
        Growth(
            process,
            measure,
            statistics.median(getattr(one, measure) for one in taken[start : start + part]),
            statistics.median(getattr(one, measure) for one in taken[-part:]),
        )
        for process, taken in samples.items()
        for measure in _Sample.__struct_fields__
    ]
