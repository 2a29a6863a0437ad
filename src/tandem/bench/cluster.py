"""Two ranks with one core each against one rank with one core, in one run.

Variants take turns, round by round, so that a noisy moment of the machine meets all of them; the
ratio is that of the medians over the rounds.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter

import msgspec

from tandem.bench.service import Ready, decode_speed, load, service

VARIANTS = {
    "one rank": ("--ranks=1",),
    "tp-2": ("--ranks=2", "--parallelism=tp"),
    "pp-2": ("--ranks=2", "--parallelism=pp"),
}


class Figure(msgspec.Struct, frozen=True):
    """Tokens a second: of a stream alone, and of `streams` together."""

    variant: str
    alone: float
    together: float


class Report(msgspec.Struct, frozen=True):
    model: str
    streams: int
    rounds: int
    figures: list[Figure]

    def ratio(self, variant: str, what: Callable[[Figure], float]) -> float:
        by_name = {figure.variant: figure for figure in self.figures}
        return what(by_name[variant]) / what(by_name["one rank"])


def measure_cluster(
    model: str,
    *,
    rounds: int,
    tokens: int,
    streams: int,
    on_progress: Callable[[str], None],
) -> Report:
    """Starts a service of each variant and measures them in turns. Raises ConfigurationError."""
    common = (f"--model={model}", "--threads=1", "--kv-tokens=4096")
    alone: dict[str, list[float]] = {name: [] for name in VARIANTS}
    together: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with ExitStack() as stack:
        services = {}
        for name, arguments in VARIANTS.items():
            on_progress(f"starting {name}")
            services[name] = stack.enter_context(service(*common, *arguments))
            _measure(services[name], tokens=4, streams=1)  # the first request warms it up
        for number in range(rounds):
            for name, ready in services.items():
                on_progress(f"round {number + 1} of {rounds}: {name}")
                alone[name].append(_measure(ready, tokens=tokens, streams=1))
                together[name].append(_measure(ready, tokens=tokens, streams=streams))
    figures = [
        Figure(name, statistics.median(alone[name]), statistics.median(together[name]))
        for name in VARIANTS
    ]
    return Report(model, streams, rounds, figures)


def _measure(ready: Ready, *, tokens: int, streams: int) -> float:
    """A stream's decode speed when it is alone, the sum of all streams' when there are several."""
    started = perf_counter()
    samples = asyncio.run(load(ready, requests=streams, concurrency=streams, tokens=tokens))
    if streams == 1:
        return decode_speed(samples)
    return streams * tokens / (perf_counter() - started)
