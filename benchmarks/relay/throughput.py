"""One coordinator process under many simulated providers and many streams: is all there, how fast?

Coordinator and load run in two processes of this machine, so they share its cores; figures are
honest as ratios and bounds, not as records.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.processes import JOIN_TOKEN, child, coordinator
from benchmarks.relay.simulated_providers import MODEL, Pace, SimulatedProvider
from tandem.bench import HOST, TimedAnswer, complete_chat
from tandem.coordinator import stores_in
from tandem.errors import TandemError
from tandem.runtime import raise_descriptor_limit

_TIMEOUT_S = 300.0
#: Providers that join at a time: those that reconnect spread themselves like this.
_JOINING = 64
_MIB = 1024 * 1024


class Traffic(msgspec.Struct, frozen=True):
    """`requests` in all, `streams` at a time, of `tokens` tokens each, one every `token_s`."""

    providers: int
    streams: int
    requests: int
    tokens: int
    token_s: float | None

    @property
    def answer(self) -> str:
        """What every request is answered with."""
        return "".join(f"{number} " for number in range(self.tokens))


class Throughput(msgspec.Struct, frozen=True):
    """`wrong` answers had a token too many, too few, or out of order. Milliseconds unless named."""

    traffic: Traffic
    wrong: int
    failed: int
    join_s: float
    chunks_per_s: float
    reserve_p50: float
    reserve_p99: float
    first_token_p50: float
    first_token_p99: float
    idle_mib: float
    joined_mib: float
    peak_mib: float


async def measure_throughput(
    data_dir: Path, traffic: Traffic, on_progress: Callable[[str], None]
) -> Throughput:
    """Raises ProtocolError when a provider is refused or cut off."""
    raise_descriptor_limit()
    with closing(stores_in(data_dir).keys()) as keys:
        key = keys.create("bench").key
    with child(coordinator, data_dir) as (port, process):
        memory = [process.memory_info().rss]
        async with asyncio.TaskGroup() as tasks:
            on_progress(f"{traffic.providers} providers join")
            began = time.perf_counter()
            providers = await join_providers(tasks, traffic, port)
            join_s = time.perf_counter() - began
            memory.append(process.memory_info().rss)
            on_progress(f"{traffic.requests} requests, {traffic.streams} at a time")
            began = time.perf_counter()
            answers = await ask_all(traffic, port, key)
            taken_s = time.perf_counter() - began
            memory.append(process.memory_info().rss)
            for provider in providers:
                provider.cancel()
    with closing(stores_in(data_dir).usage()) as usage:
        entries = usage.entries(limit=traffic.requests)
    reserved = [entry.queue_s for entry in entries if entry.queue_s]
    return _throughput(traffic, answers, reserved, (join_s, taken_s), memory)


def _throughput(
    traffic: Traffic,
    answers: Sequence[TimedAnswer | TandemError],
    reserved_s: list[float],
    times_s: tuple[float, float],
    memory: Sequence[int],
) -> Throughput:
    """`times_s` of joining and of the requests; `memory` idle, joined and at the peak, in bytes."""
    join_s, taken_s = times_s
    good = [answer for answer in answers if isinstance(answer, TimedAnswer)]
    first_s = [answer.first_s for answer in good]
    idle_mib, joined_mib, peak_mib = (used / _MIB for used in memory)
    return Throughput(
        traffic=traffic,
        wrong=sum(answer.text != traffic.answer for answer in good),
        failed=len(answers) - len(good),
        join_s=join_s,
        chunks_per_s=traffic.tokens * len(good) / taken_s,
        reserve_p50=1e3 * statistics.median(reserved_s),
        reserve_p99=1e3 * _p99(reserved_s),
        first_token_p50=1e3 * statistics.median(first_s),
        first_token_p99=1e3 * _p99(first_s),
        idle_mib=idle_mib,
        joined_mib=joined_mib,
        peak_mib=peak_mib,
    )


async def join_providers(
    tasks: asyncio.TaskGroup, traffic: Traffic, port: int
) -> list[asyncio.Task[None]]:
    """Returns when all simulated providers have joined; each is a task of the group."""
    pace = Pace(traffic.token_s)
    places = asyncio.Semaphore(_JOINING)
    url = f"ws://{HOST}:{port}"
    running: list[asyncio.Task[None]] = []

    async def one(number: int) -> None:
        async with places:
            provider = SimulatedProvider(url, JOIN_TOKEN, f"sim-{number}", pace)
            running.append(tasks.create_task(provider.run()))
            await provider.joined.wait()

    async with asyncio.timeout(_TIMEOUT_S), asyncio.TaskGroup() as joining:
        for number in range(traffic.providers):
            joining.create_task(one(number))
    return running


async def ask_all(traffic: Traffic, port: int, key: str) -> list[TimedAnswer | TandemError]:
    """The answers to all requests, or their errors."""
    places = asyncio.Semaphore(traffic.streams)

    async def one(number: int) -> TimedAnswer | TandemError:
        request: dict[str, Any] = {
            "model": MODEL,
            "messages": [{"role": "user", "content": f"request {number}"}],
            "max_tokens": traffic.tokens,
        }
        async with places:
            try:
                return await complete_chat(HOST, port, key, request)
            except TandemError as error:
                return error

    async with asyncio.timeout(_TIMEOUT_S):
        return await asyncio.gather(*(one(number) for number in range(traffic.requests)))


def _p99(values: list[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]
