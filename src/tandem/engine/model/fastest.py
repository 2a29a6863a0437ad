"""Which of several ways to compute the same thing is the fastest on this machine: they race.

Which one wins depends on the processor's instructions, its caches and the number of threads, and no
table of processors is complete. A race takes some hundredths of a second, once a process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import structlog
import torch

log = structlog.get_logger(__name__)

#: A later way must be this much faster than those before it, or noise would choose.
_MARGIN = 1.1
_LAPS = 7
#: Weights of a race: more than caches hold, so that they come from memory as a model's do.
PROBE_SHAPE, PROBES = (4096, 4096), 6

Way = Callable[[], object]


def fastest(
    what: str,
    ways: Mapping[str, Sequence[Way]],
    clock: Callable[[], float] = time.perf_counter,
) -> str:
    """The name of the way whose calls, one after the other, take the least time.

    Those that are named first win a draw: where all wait for a memory that others use too, say
    another rank that is being loaded, the race shows nothing.
    """
    seconds = dict.fromkeys(ways, float("inf"))
    # In turns, so that a busy moment of the machine meets all of them.
    for _ in range(_LAPS):
        for name, calls in ways.items():
            seconds[name] = min(seconds[name], _lap(calls, clock))
    best = next(iter(ways))
    for name in ways:
        if seconds[name] * _MARGIN < seconds[best]:
            best = name
    milliseconds = {name: round(taken * 1e3, 2) for name, taken in seconds.items()}
    log.info("fastest_way", what=what, chosen=best, ms=milliseconds)
    return best


def race_for(rows: int, raced: Sequence[int]) -> int | None:
    """Which of the raced numbers of rows, in order, tells about so many; None of more than all."""
    return next((number for number in raced if rows <= number), None)


def probe_weight() -> torch.Tensor:
    """A bfloat16 matrix, of which `PROBES` copies are to race."""
    # Ones, not empty: pages that nobody wrote are all the same one, and in the cache.
    return torch.ones(PROBE_SHAPE, dtype=torch.bfloat16)


def _lap(calls: Sequence[Way], clock: Callable[[], float]) -> float:
    began = clock()
    for call in calls:
        call()
    return clock() - began
