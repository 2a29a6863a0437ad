"""What a coordinator spends with ever more streams at a time, and ever more providers.

Three costs, told apart: of the providers that are there and say so, of a request, and of a chunk.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec
import psutil

from benchmarks.processes import child, coordinator, cpu_s
from benchmarks.relay.throughput import Traffic, ask_all, join_providers
from tandem.bench import BenchmarkFailed, TimedAnswer
from tandem.coordinator import stores_in
from tandem.runtime import raise_descriptor_limit

#: (providers, streams at a time)
_SIZES = ((10, 10), (10, 100), (10, 1000), (500, 100), (5000, 100))
_SHORT, _LONG = 8, 136
_STREAMS_AT_LEAST = 400
_IDLE_S = 2.0


class Scaling(msgspec.Struct, frozen=True):
    """Medians of the coordinator's processor time: idle, as a part of a core."""

    providers: int
    streams: int
    idle: float
    request_ms: float
    chunk_us: float


async def measure_scaling(rounds: int, on_progress: Callable[[str], None]) -> list[Scaling]:
    """Sizes take turns. Raises BenchmarkFailed when an answer is wrong or missing."""
    raise_descriptor_limit()
    taken: dict[tuple[int, int], list[Scaling]] = {size: [] for size in _SIZES}
    for number in range(rounds):
        for size in _SIZES:
            providers, streams = size
            on_progress(f"round {number + 1} of {rounds}: {providers} providers, {streams} streams")
            with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
                taken[size].append(await _measure(Path(folder), providers, streams))
    return [_medians(found) for found in taken.values()]


async def _measure(folder: Path, providers: int, streams: int) -> Scaling:
    with closing(stores_in(folder).keys()) as keys:
        key = keys.create("bench").key
    requests = max(2 * streams, _STREAMS_AT_LEAST)
    short = Traffic(providers, streams, requests, _SHORT, token_s=None)
    long = msgspec.structs.replace(short, tokens=_LONG)
    with child(coordinator, folder) as (port, process):
        async with asyncio.TaskGroup() as tasks:
            joined = await join_providers(tasks, short, port)
            await _used_s(short, port, key, process)  # every provider's and connection's first
            began, cpu = time.perf_counter(), cpu_s(process)
            await asyncio.sleep(_IDLE_S)
            idle = (cpu_s(process) - cpu) / (time.perf_counter() - began)
            short_s = await _used_s(short, port, key, process, idle)
            long_s = await _used_s(long, port, key, process, idle)
            for provider in joined:
                provider.cancel()
    chunk_s = (long_s - short_s) / (requests * (_LONG - _SHORT))
    request_s = short_s / requests - _SHORT * chunk_s
    return Scaling(providers, streams, idle, 1e3 * request_s, 1e6 * chunk_s)


async def _used_s(
    traffic: Traffic, port: int, key: str, process: psutil.Process, idle: float = 0.0
) -> float:
    """Processor time beyond that of being idle. Raises BenchmarkFailed."""
    began, cpu = time.perf_counter(), cpu_s(process)
    answers = await ask_all(traffic, port, key)
    used_s = cpu_s(process) - cpu - idle * (time.perf_counter() - began)
    good = [a for a in answers if isinstance(a, TimedAnswer) and a.text == traffic.answer]
    if len(good) < traffic.requests:
        raise BenchmarkFailed(f"{traffic.requests - len(good)} answers were wrong or missing")
    return used_s


def _medians(found: list[Scaling]) -> Scaling:
    first = found[0]
    return Scaling(
        first.providers,
        first.streams,
        statistics.median(one.idle for one in found),
        statistics.median(one.request_ms for one in found),
        statistics.median(one.chunk_us for one in found),
    )
