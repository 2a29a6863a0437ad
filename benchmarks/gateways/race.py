"""Gateways side by side, in front of the same echo backend, each with the same core.

Throughput: as many requests as fit, from consumers that never pause. Latency: the first token of
streams at a pace, which the backend answers with at once, beside the same streams straight from
it; what a gateway adds is the difference of the medians. Gateways take turns, round by round, so
that a noisy moment of the machine meets them all.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil

from benchmarks.gateways.echo import BRISK, CALM, FAST, PACES, echo
from benchmarks.gateways.litellm import litellm_proxy
from benchmarks.processes import child, coordinator, cpu_s
from tandem.bench import HOST, Consumer
from tandem.coordinator import stores_in
from tandem.runtime import raise_descriptor_limit

TANDEM, LITELLM = "tandem", "LiteLLM"
_DIRECT = "direct"
_TIMEOUT_S = 120.0
#: Consumers that never pause: enough to keep a gateway busy.
_BUSY = 32
_SHORT, _LONG, _PACED = 1, 128, 16


class RaceSettings(msgspec.Struct, frozen=True):
    """`seconds` of each throughput measurement; `streams` at a time when latency is measured."""

    rounds: int = 3
    seconds: float = 3.0
    streams: int = 100


class Gateway(msgspec.Struct, frozen=True):
    """Medians over the rounds. What it adds to the first of 4 and of 20 tokens a second."""

    name: str
    requests_per_s: float
    cpu_ms_per_request: float
    chunks_per_s: float
    added_calm_ms: float
    added_brisk_ms: float


class GatewayReport(msgspec.Struct, frozen=True):
    settings: RaceSettings
    #: Straight from the backend.
    direct_calm_ms: float
    direct_brisk_ms: float
    gateways: list[Gateway]


class _Target(msgspec.Struct, frozen=True):
    """Where requests go; `process` is None for the backend itself."""

    name: str
    port: int
    key: str
    process: psutil.Process | None


class _Round(msgspec.Struct, frozen=True):
    requests_per_s: float
    cpu_ms: float
    chunks_per_s: float
    calm_ms: float
    brisk_ms: float


async def measure_gateways(
    folder: Path, settings: RaceSettings, litellm: Path | None, on_progress: Callable[[str], None]
) -> GatewayReport:
    """Raises BenchmarkFailed when something does not start, ProtocolError when a request fails."""
    raise_descriptor_limit()
    taken: dict[str, list[_Round]] = {}
    with _targets(folder, litellm, on_progress) as targets:
        for number in range(settings.rounds):
            for target in targets:
                on_progress(f"round {number + 1} of {settings.rounds}: {target.name}")
                taken.setdefault(target.name, []).append(await _round(target, settings))
    direct = taken.pop(_DIRECT)
    calm, brisk = _median(direct, "calm_ms"), _median(direct, "brisk_ms")
    gateways = [
        Gateway(
            name,
            requests_per_s=_median(rounds, "requests_per_s"),
            cpu_ms_per_request=_median(rounds, "cpu_ms"),
            chunks_per_s=_median(rounds, "chunks_per_s"),
            added_calm_ms=_median(rounds, "calm_ms") - calm,
            added_brisk_ms=_median(rounds, "brisk_ms") - brisk,
        )
        for name, rounds in taken.items()
    ]
    return GatewayReport(settings, calm, brisk, gateways)


@contextmanager
def _targets(
    folder: Path, litellm: Path | None, on_progress: Callable[[str], None]
) -> Iterator[list[_Target]]:
    with closing(stores_in(folder).keys()) as keys:
        key = keys.create("bench").key
    with ExitStack() as stack:
        port, process = stack.enter_context(child(coordinator, folder))
        backend_port, backend = stack.enter_context(child(echo, port))
        targets = [
            _Target(_DIRECT, backend_port, "none", None),
            _Target(TANDEM, port, key, process),
        ]
        if litellm is not None:
            on_progress("LiteLLM starts")
            proxy = stack.enter_context(litellm_proxy(litellm, folder, backend_port, list(PACES)))
            targets.append(_Target(LITELLM, proxy.port, proxy.key, proxy.process))
        _pin(backend, [target.process for target in targets if target.process is not None])
        yield targets


def _pin(backend: psutil.Process, gateways: list[psutil.Process]) -> None:
    """Gateways have the first core, the backend and the consumers the others, where that goes."""
    own = psutil.Process()
    if not hasattr(own, "cpu_affinity") or (os.cpu_count() or 1) < 2:
        return
    first, *others = own.cpu_affinity()
    for process in gateways:
        process.cpu_affinity([first])
    for process in (backend, own):
        process.cpu_affinity(others)


async def _round(target: _Target, settings: RaceSettings) -> _Round:
    await _busy(target, 0.3, stream=False, tokens=_SHORT)  # connections, caches
    cpu = _cpu_s(target)
    requests, seconds = await _busy(target, settings.seconds, stream=False, tokens=_SHORT)
    cpu_ms = 1e3 * (_cpu_s(target) - cpu) / requests
    streams, streaming_s = await _busy(target, settings.seconds, stream=True, tokens=_LONG)
    return _Round(
        requests / seconds,
        cpu_ms,
        streams * _LONG / streaming_s,
        await _first_ms(target, CALM, settings.streams),
        await _first_ms(target, BRISK, settings.streams),
    )


async def _busy(target: _Target, seconds: float, *, stream: bool, tokens: int) -> tuple[int, float]:
    """Answers, and the seconds they took. Every consumer ends the request that it is at."""
    began = time.perf_counter()
    counts = [0] * _BUSY

    async def consume(number: int) -> None:
        consumer = Consumer(HOST, target.port, target.key, trace=False)
        try:
            while time.perf_counter() - began < seconds:
                await consumer.ask(_request(FAST, number, tokens), stream=stream)
                counts[number] += 1
        finally:
            consumer.close()

    async with asyncio.timeout(_TIMEOUT_S), asyncio.TaskGroup() as tasks:
        for number in range(_BUSY):
            tasks.create_task(consume(number))
    return sum(counts), time.perf_counter() - began


async def _first_ms(target: _Target, model: str, streams: int) -> float:
    """Two streams of each consumer, who start one after the other; the second one is measured."""
    stream_s = _PACED * (PACES[model].token_s or 0.0)
    taken: list[float] = []

    async def consume(number: int) -> None:
        await asyncio.sleep(number / streams * stream_s)
        consumer = Consumer(HOST, target.port, target.key, trace=False)
        try:
            await consumer.ask(_request(model, number, _PACED))
            taken.append((await consumer.ask(_request(model, number, _PACED))).first_s)
        finally:
            consumer.close()

    async with asyncio.timeout(_TIMEOUT_S), asyncio.TaskGroup() as tasks:
        for number in range(streams):
            tasks.create_task(consume(number))
    return 1e3 * statistics.median(taken)


def _request(model: str, number: int, tokens: int) -> dict[str, Any]:
    messages = [{"role": "user", "content": f"What follows {number}?"}]
    return {"model": model, "messages": messages, "max_tokens": tokens}


def _cpu_s(target: _Target) -> float:
    return 0.0 if target.process is None else cpu_s(target.process)


def _median(rounds: list[_Round], field: str) -> float:
    return float(statistics.median(getattr(one, field) for one in rounds))
