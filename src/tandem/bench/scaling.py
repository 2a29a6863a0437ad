"""What a chunk costs a coordinator, with ever more streams at a time, and ever more providers."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from tandem.bench.load import Load, measure_load
from tandem.bench.service import BenchmarkFailed

_TOKENS, _STREAMS_AT_LEAST = 128, 300
#: (providers, streams at a time)
_SIZES = ((10, 10), (10, 100), (10, 1000), (500, 100), (5000, 100))


class Scaling(msgspec.Struct, frozen=True):
    """Median processor time of the coordinator, a request's own share included."""

    providers: int
    streams: int
    cpu_us_per_chunk: float


async def measure_scaling(rounds: int, on_progress: Callable[[str], None]) -> list[Scaling]:
    """Sizes take turns. Raises BenchmarkFailed when an answer is wrong or missing."""
    taken: dict[tuple[int, int], list[float]] = {size: [] for size in _SIZES}
    for number in range(rounds):
        for providers, streams in _SIZES:
            on_progress(f"round {number + 1} of {rounds}")
            requests = max(2 * streams, _STREAMS_AT_LEAST)
            load = Load(providers, streams, requests, _TOKENS, token_s=None)
            with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
                report = await measure_load(Path(folder), load, on_progress)
            if report.wrong or report.failed:
                raise BenchmarkFailed(f"{report.wrong + report.failed} answers were wrong")
            taken[providers, streams].append(report.cpu_us_per_chunk)
    return [Scaling(*size, statistics.median(costs)) for size, costs in taken.items()]
