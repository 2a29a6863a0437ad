"""How many guesses a step carries: as many as give the most tokens a second.

A source says how likely each of its guesses is right, by counting what came of earlier ones; the
steps themselves say what a further row costs. So guessing ends by itself where it loses: with text
that does not repeat itself, with batches whose rows cost time, on processors on which all do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tandem.engine.core.sequence import Sequence as Tokens
from tandem.engine.speculation.account import Account
from tandem.engine.speculation.costs import StepCosts

#: Guesses for a sequence in a step.
MAX_GUESSES = 15
#: Measurements are no better than this: what gains less is left.
_WORTH = 1.03


class Source(Protocol):
    """Where guesses come from. It learns from the sequences' tokens what came of them."""

    @property
    def round_s(self) -> float:
        """Seconds that one further guess for all the sequences takes, beside its row."""
        ...

    def chances(self, sequences: Sequence[Tokens], most: Sequence[int]) -> list[list[float]]:
        """How likely each next guess is right and all before it, up to `most` for a sequence."""
        ...

    def guess(self, sequences: Sequence[Tokens], counts: Sequence[int]) -> list[list[int]]:
        """So many guesses for each, or fewer: token ids of the vocabulary."""
        ...

    def forget(self, sequence: Tokens) -> None: ...


class AdaptiveGuesser:
    """Implements `tandem.engine.core.scheduler.Guesser`."""

    def __init__(self, source: Source, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._costs = StepCosts()
        self._account = Account()
        #: Seconds of guessing that are not booked yet.
        self._spent_s = 0.0

    def guess(self, sequences: Sequence[Tokens], most: Sequence[int]) -> list[list[int]]:
        if self._account.is_overdrawn:
            return [[] for _ in sequences]
        began = self._clock()
        bounds = [min(bound, MAX_GUESSES) for bound in most]
        chances = self._source.chances(sequences, bounds)
        counts = best_counts(
            chances, self._costs.seconds, self._source.round_s, self._costs.most_rows
        )
        guesses = self._source.guess(sequences, counts)
        self._spent_s += self._clock() - began
        return guesses

    def observe(self, rows: int, seconds: float, sequences: int, tokens: int) -> None:
        self._costs.observe(rows, seconds)
        plain_s = self._costs.seconds(sequences)
        took_s = self._costs.seconds(rows) + self._spent_s
        self._account.book(won=tokens / sequences, cost=took_s / plain_s)
        self._spent_s = 0.0

    def forget(self, sequence: Tokens) -> None:
        self._source.forget(sequence)


def best_counts(
    chances: Sequence[Sequence[float]],
    step_s: Callable[[int], float],
    round_s: float,
    most_rows: int,
) -> list[int]:
    """How many of each one's guesses to compute, likeliest first, for the most tokens a second.

    `step_s` tells the seconds of a step by its rows, `round_s` those of one guess more for all.
    """
    size = len(chances)
    likeliest = sorted(
        (-chance, depth, index)
        for index, row in enumerate(chances)
        for depth, chance in enumerate(row, 1)
    )
    expected, deepest = float(size), 0
    best, worth = 0, _WORTH * size / step_s(size)
    for taken, (chance, depth, _) in enumerate(likeliest, 1):
        if size + taken > max(most_rows, size + 1):
            break
        expected -= chance
        deepest = max(deepest, depth)
        speed = expected / (step_s(size + taken) + deepest * round_s)
        if speed > worth:
            best, worth = taken, speed
    counts = [0] * size
    for _, _, index in likeliest[:best]:
        counts[index] += 1
    return counts
