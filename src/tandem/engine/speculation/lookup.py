"""Guesses from the sequence's own tokens: where its last ones stood before, the same may follow.

What is quoted, edited or listed repeats what stands in the prompt or the answer (prompt lookup,
Saxena 2023). All that is kept of a sequence are two tables of places by a few tokens' hash, of
fixed size: a token costs the same however long the text, and what was overwritten is not found.

Every token is a test of what would have been guessed, whether or not it was: so the chances of a
guess are counted for nothing, by how long the text has been the same as where it is copied from.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from tandem.engine.core.sequence import Sequence as Tokens

#: Equal tokens that make a place worth copying from; longer ones are looked for first.
_GRAMS = (4, 2)
#: Entries of a table: as many as there may be tokens, and no more than this.
_MAX_BITS = 15
#: Tokens that are looked at in one step, of all sequences together.
_A_STEP = 1024
#: How likely the next token is the same, by half the bits of how many were; and what that weighs.
_FIRST_RATES, _FIRST_WEIGHT = (0.3, 0.3, 0.45, 0.6, 0.75, 0.85), 2.0
#: Of older counts half is left.
_COUNTED = 32.0
_UNLIKELY = 0.02


class Lookup:
    """Implements `Source`."""

    round_s = 0.0

    def __init__(self) -> None:
        self._repeats: dict[int, _Repeats] = {}

    def chances(self, sequences: Sequence[Tokens], most: Sequence[int]) -> list[list[float]]:
        budget = _A_STEP
        found = []
        for sequence, bound in zip(sequences, most, strict=True):
            repeats = self._repeats_of(sequence)
            new = len(sequence.tokens) - repeats.seen
            repeats.read(sequence.tokens, min(new, budget))
            found.append(repeats.chances(bound) if new <= budget else [])
            budget -= min(new, budget)
        return found

    def guess(self, sequences: Sequence[Tokens], counts: Sequence[int]) -> list[list[int]]:
        return [
            self._repeats_of(sequence).copied(sequence.tokens, count)
            for sequence, count in zip(sequences, counts, strict=True)
        ]

    def forget(self, sequence: Tokens) -> None:
        self._repeats.pop(sequence.sequence_id, None)

    def _repeats_of(self, sequence: Tokens) -> _Repeats:
        repeats = self._repeats.get(sequence.sequence_id)
        if repeats is None:
            longest = sequence.prompt_length + sequence.params.max_tokens
            repeats = self._repeats[sequence.sequence_id] = _Repeats(longest)
        return repeats


class _Repeats:
    """Where one sequence's text goes on as it did before: at token `source`, for `run` tokens."""

    def __init__(self, longest: int) -> None:
        bits = min(_MAX_BITS, longest.bit_length())
        self._mask = (1 << bits) - 1
        self._ends = {gram: array("i", bytes(4 << bits)) for gram in _GRAMS}
        self._right = [0.0] * len(_FIRST_RATES)
        self._wrong = [0.0] * len(_FIRST_RATES)
        self._source = self._run = 0
        self.seen = 0

    def read(self, tokens: list[int], count: int) -> None:
        """Learns from so many tokens more."""
        for place in range(self.seen, self.seen + count):
            if self._source:
                self._judge(tokens[self._source] == tokens[place])
            self._look_up(tokens, place + 1)
        self.seen += count

    def chances(self, most: int) -> list[float]:
        chance, found = 1.0, []
        for ahead in range(most if self._source else 0):
            chance *= self._rate(self._run + ahead)
            if chance < _UNLIKELY:
                break
            found.append(chance)
        return found

    def copied(self, tokens: list[int], count: int) -> list[int]:
        """What follows the source; behind the last token it goes on with what was copied."""
        found: list[int] = []
        for place in range(self._source, self._source + count):
            found.append(tokens[place] if place < len(tokens) else found[place - len(tokens)])
        return found

    def _judge(self, right: bool) -> None:
        kind = _kind(self._run)
        counts = self._right if right else self._wrong
        counts[kind] += 1
        if self._right[kind] + self._wrong[kind] > _COUNTED:
            self._right[kind] /= 2
            self._wrong[kind] /= 2
        self._source, self._run = (self._source + 1, self._run + 1) if right else (0, 0)

    def _look_up(self, tokens: list[int], end: int) -> None:
        for gram in _GRAMS:
            if end < gram:
                continue
            last = tokens[end - gram : end]
            slot = hash(tuple(last)) & self._mask
            ends = self._ends[gram]
            before = ends[slot]
            ends[slot] = end
            if before and self._run < gram and tokens[before - gram : before] == last:
                self._source, self._run = before, gram

    def _rate(self, run: int) -> float:
        kind = _kind(run)
        right, wrong = self._right[kind], self._wrong[kind]
        first = _FIRST_RATES[kind] * _FIRST_WEIGHT
        return (right + first) / (right + wrong + _FIRST_WEIGHT)


def _kind(run: int) -> int:
    """0 for none, 2 for two and three, then one more for each doubling."""
    return min(run.bit_length(), len(_FIRST_RATES) - 1)
