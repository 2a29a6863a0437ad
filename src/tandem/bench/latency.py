"""Where requests' time goes: segments of each, summed up, and held against bounds."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from tandem.bench.streams import TimedAnswer

TOTAL, DECODE_TPS = "total_e2e", "decode_tps"
#: The parts of `total_e2e`, in the order in which they pass.
SEGMENTS = (
    "client_to_coordinator",
    "queue_wait",
    "retries",
    "e2e_encrypt",
    "coordinator_to_provider",
    "provider_to_backend",
    "ttft",
    "decode",
    "provider_to_coordinator",
    "provider_to_client",
)
_TOLERANCE = 0.02


class Stats(msgspec.Struct, frozen=True):
    """Milliseconds; of `decode_tps`, tokens a second."""

    count: int
    mean: float
    median: float
    p95: float
    p99: float
    max: float

    @property
    def figures(self) -> tuple[float, ...]:
        """All but the count, in the order of a table."""
        return self.mean, self.median, self.p95, self.p99, self.max


class Check(msgspec.Struct, frozen=True):
    """`value` and `bound` as they are to be read."""

    name: str
    value: str
    bound: str
    passed: bool


class Bound(msgspec.Struct, frozen=True):
    """What a segment may take, in milliseconds."""

    segment: str
    mean: float
    p95: float


BOUNDS = (
    Bound("queue_wait", 30_000, 90_000),
    Bound("e2e_encrypt", 1, 2),
    Bound("coordinator_to_provider", 5, 20),
    Bound("ttft", 5_000, 10_000),
    Bound(TOTAL, 30_000, 60_000),
)


def decompose(answer: TimedAnswer, tokens: int) -> dict[str, float]:
    """Milliseconds of each segment of an answer of `tokens` tokens; only `total_e2e` untraced.

    Every time was read from a clock where the thing happened; nothing is inferred.
    """
    parts = {TOTAL: answer.total_s * 1e3}
    trace = answer.trace
    if trace is None:
        return parts
    provider = trace.provider
    times = (
        answer.started,
        trace.received,
        trace.placed,
        trace.placed_last,
        trace.sealed,
        provider.received,
        provider.submitted,
        provider.first_token,
        provider.last_token,
        trace.answered,
        answer.started + answer.total_s,
    )
    for name, begin, end in zip(SEGMENTS, times[:-1], times[1:], strict=True):
        parts[name] = (end - begin) * 1e3
    moved = trace.placed_last > trace.placed  # its provider made only the rest
    if tokens > 1 and parts["decode"] > 0 and not moved:
        parts[DECODE_TPS] = (tokens - 1) / parts["decode"] * 1e3
    return parts


def summarise(samples: Sequence[dict[str, float]]) -> dict[str, Stats]:
    names = (TOTAL, *SEGMENTS, DECODE_TPS)
    taken = {name: [sample[name] for sample in samples if name in sample] for name in names}
    return {name: _stats(values) for name, values in taken.items() if values}


def checks(samples: Sequence[dict[str, float]], requests: int) -> list[Check]:
    """What must hold of `requests` requests, of which `samples` succeeded."""
    complete = [sample for sample in samples if all(name in sample for name in SEGMENTS)]
    # A clock that runs behind another's shows as a negative segment, which a sum would hide.
    gaps = [_gap(sample) for sample in complete]
    least = min((sample[name] for sample in complete for name in SEGMENTS), default=0.0)
    found = [
        Check("success", _percent(len(samples), requests), "100 %", len(samples) == requests),
        Check(
            "every segment present",
            _percent(len(complete), requests),
            "100 %",
            len(complete) == requests,
        ),
        Check(
            "segments sum to the total",
            f"{max(gaps, default=0.0):.2%} off",
            f"≤ {_TOLERANCE:.0%}",
            max(gaps, default=0.0) <= _TOLERANCE,
        ),
        Check("no segment is negative", f"{least:.3f} ms", "≥ -0.1 ms", least >= -0.1),
    ]
    stats = summarise(samples)
    for bound in BOUNDS:
        if bound.segment in stats:
            found += _bounded(bound, stats[bound.segment])
    return found


def _bounded(bound: Bound, stats: Stats) -> list[Check]:
    return [
        Check(f"{bound.segment} {what}", f"{value:.3g} ms", f"≤ {limit:,.0f} ms", value <= limit)
        for what, value, limit in (
            ("mean", stats.mean, bound.mean),
            ("p95", stats.p95, bound.p95),
        )
    ]


def _gap(sample: dict[str, float]) -> float:
    """How far the segments are from the total, as a part of it."""
    return abs(sum(sample[name] for name in SEGMENTS) / sample[TOTAL] - 1)


def _stats(values: Sequence[float]) -> Stats:
    median, p95, p99 = np.quantile(values, (0.5, 0.95, 0.99))
    return Stats(
        len(values), float(np.mean(values)), float(median), float(p95), float(p99), max(values)
    )


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else "-"
