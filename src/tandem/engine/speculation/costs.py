"""How long steps take by how many tokens they compute, as measured while they serve.

Counts are taken together in ranges, for steps of 13 and of 15 tokens cost the same. What was not
seen for long is tried again, the later the more it cost and the oftener it was seen, so that trying
costs a hundredth.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

#: The upper ends of the ranges: each half as long again as one before, or twice.
_RANGES = [1, *(width << power for power in range(11) for width in (2, 3))]
#: Measurements that are kept, and with how many something is known: a first time may pay for
#: what comes once, and a second one wait for others.
KEPT, NEEDED = 8, 3
#: Steps without one of a range, for each that is known of it, before it is tried again.
_UNTRIED_STEPS = 16
#: Some clocks stand still for longer than a step takes.
_LEAST_S = 1e-6


class StepCosts:
    """What each range's last steps took; between ranges, and beyond, a straight line."""

    def __init__(self) -> None:
        self._taken: dict[int, deque[tuple[int, float]]] = {}
        self._steps = 0
        self._latest_s = 1.0
        self._known: list[tuple[int, float]] = []

    def observe(self, rows: int, seconds: float) -> None:
        self._steps += 1
        self._latest_s = max(seconds, _LEAST_S)
        taken = self._taken.setdefault(_range_of(rows), deque(maxlen=KEPT))
        taken.append((self._steps, self._latest_s))
        self._known = self._fresh()

    @property
    def most_rows(self) -> int:
        """How many rows are worth a try: twice as many as are known, for costs may leap."""
        return 2 * self._known[-1][0] if self._known else 2

    def seconds(self, rows: int) -> float:
        """Optimistic where nothing is known: what is never tried is never known."""
        rows, known = _range_of(rows), self._known
        if not known:
            return self._latest_s
        if rows <= known[0][0]:
            return known[0][1] * rows / known[0][0]
        if len(known) == 1:
            return known[0][1]
        above = min(bisect_left(known, (rows, 0.0)), len(known) - 1)
        (fewer, less), (more, longer) = known[above - 1], known[above]
        slope = max(0.0, (longer - less) / (more - fewer))
        return longer - slope * (more - rows)

    def _fresh(self) -> list[tuple[int, float]]:
        usual = {
            rows: typical([seconds for _, seconds in taken])
            for rows, taken in self._taken.items()
            if len(taken) >= NEEDED
        }
        least = min(usual.values(), default=0.0)
        known = []
        for rows, seconds in sorted(usual.items()):
            taken = self._taken[rows]
            untried = self._steps - taken[-1][0]
            if untried * least <= _UNTRIED_STEPS * len(taken) * seconds:
                known.append((rows, seconds))
        return known


def typical(seconds: Sequence[float]) -> float:
    """Of several measurements the shorter third ends here: what else runs makes others longer."""
    return sorted(seconds)[(len(seconds) - 1) // 3]


def _range_of(rows: int) -> int:
    """The largest count that is taken to cost what so many rows do."""
    return _RANGES[min(bisect_left(_RANGES, rows), len(_RANGES) - 1)]
