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
_LAPS = 5
#: Weights of a race: more than caches hold, so that they come from memory as a model's do.
PROBE_SHAPE, PROBES = (4096, 4096), 6

Way = Callable[[], object]


def fastest(what: str, ways: Mapping[str, Sequence[Way]]) -> str:
    """The name of the way whose calls, one after the other, take the least time.

    Those that are named first win a draw.
    """
    best_name, best_s = "", float("inf")
    taken_ms = {}
    for name, calls in ways.items():
        seconds = min(_lap(calls) for _ in range(_LAPS))
        taken_ms[name] = round(seconds * 1e3, 2)
        if seconds * _MARGIN < best_s:
            best_name, best_s = name, seconds
    log.info("fastest_way", what=what, chosen=best_name, ms=taken_ms)
    return best_name


def probe_weights() -> list[torch.Tensor]:
    """bfloat16 matrices to race on."""
    # Ones, not empty: pages that nobody wrote are all the same one, and in the cache.
    return [torch.ones(PROBE_SHAPE, dtype=torch.bfloat16) for _ in range(PROBES)]


def _lap(calls: Sequence[Way]) -> float:
    began = time.perf_counter()
    for call in calls:
        call()
    return time.perf_counter() - began
