"""How long steps take by how many tokens they compute, as measured while they serve.

Counts are taken together in ranges, for steps of 13 and of 15 tokens cost the same. What was not
seen for long is forgotten, the later the more it cost, so that looking again costs a hundredth.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from statistics import median_low

#: The upper ends of the ranges: each half as long again as one before, or twice.
_RANGES = [1, *(width << power for power in range(11) for width in (2, 3))]
_KEPT = 8
#: A first time may pay for what comes once, so one does not tell.
_NEEDED = 2
_REMEMBERED_STEPS = 256


class StepCosts:
    """The median of each range's last steps; between ranges, and beyond, a straight line."""

    def __init__(self) -> None:
        self._taken: dict[int, deque[tuple[int, float]]] = {}
        self._steps = 0
        self._known: list[tuple[int, float]] = []

    def observe(self, rows: int, seconds: float) -> None:
        self._steps += 1
        taken = self._taken.setdefault(_range_of(rows), deque(maxlen=_KEPT))
        taken.append((self._steps, seconds))
        self._known = self._fresh()

    @property
    def most_rows(self) -> int:
        """How many rows are worth a try: twice as many as are known, for costs may leap."""
        return 2 * self._known[-1][0] if self._known else 2

    def seconds(self, rows: int) -> float:
        """Optimistic where nothing is known: what is never tried is never known."""
        rows, known = _range_of(rows), self._known
        if not known:
            return 1.0
        if rows <= known[0][0]:
            return known[0][1] * rows / known[0][0]
        if len(known) == 1:
            return known[0][1]
        above = min(bisect_left(known, (rows, 0.0)), len(known) - 1)
        (fewer, less), (more, longer) = known[above - 1], known[above]
        slope = max(0.0, (longer - less) / (more - fewer))
        return longer - slope * (more - rows)

    def _fresh(self) -> list[tuple[int, float]]:
        least = min(seconds for taken in self._taken.values() for _, seconds in taken)
        known = []
        for rows in sorted(self._taken):
            fresh = [
                seconds
                for step, seconds in self._taken[rows]
                if (self._steps - step) * least <= _REMEMBERED_STEPS * seconds
            ]
            if len(fresh) >= _NEEDED:
                known.append((rows, median_low(fresh)))
        return known


def _range_of(rows: int) -> int:
    """The largest count that is taken to cost what so many rows do."""
    return _RANGES[min(bisect_left(_RANGES, rows), len(_RANGES) - 1)]
