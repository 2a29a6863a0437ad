"""Which of several ways to compute the same thing is the fastest on this machine: they race.

Which one wins depends on the processor's instructions, its caches and the number of threads, and no
table of processors is complete. A race takes some hundredths of a second, once a process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import structlog
import torch

log = structlog.get_logger(__name__)

#: A later way must be this much faster than those before it, or noise would choose.
_MARGIN = 1.1
_LAPS = 7
#: Weights of a race: more than caches hold, so that they come from memory as a model's do.
PROBE_SHAPE, PROBES = (4096, 4096), 6

Way = Callable[[], object]
W = TypeVar("W")


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


def probe_weight() -> torch.Tensor:
    """A bfloat16 matrix, of which `PROBES` copies are to race."""
    # Ones, not empty: pages that nobody wrote are all the same one, and in the cache.
    return torch.ones(PROBE_SHAPE, dtype=torch.bfloat16)


class RowRaces(Generic[W]):
    """Which way so many rows go by weights of one kind: ways race for some numbers of rows.

    Numbers between go the way of the next one. Races run once for a number of threads, of which
    PyTorch has as many then.
    """

    def __init__(
        self,
        what: str,
        rows: Sequence[int],
        probes: Callable[[], list[W]],
        ways: Callable[[int, list[W]], Mapping[str, Sequence[Way]]],
        *,
        more: str,
    ) -> None:
        """`ways` of so many rows by the probes; `more` rows than any of `rows` go that way."""
        self._what = what
        self._rows = rows
        self._probes = probes
        self._ways = ways
        self._more = more
        self._winners: dict[int, dict[int, str]] = {}

    def run(self) -> dict[int, str]:
        """The winners by the number of rows; called before anybody waits for an answer."""
        threads = torch.get_num_threads()
        if threads not in self._winners:
            probes = self._probes()
            self._winners[threads] = {
                rows: fastest(f"{self._what} rows: {rows}", self._ways(rows, probes))
                for rows in self._rows
            }
        return self._winners[threads]

    def winner(self, rows: int) -> str:
        for raced, way in self.run().items():
            if rows <= raced:
                return way
        return self._more


def _lap(calls: Sequence[Way], clock: Callable[[], float]) -> float:
    began = clock()
    for call in calls:
        call()
    return clock() - began
