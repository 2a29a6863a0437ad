"""A model of rules: what it says is a function of the tokens before, read from a played cache."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence as Items
from itertools import cycle

from tandem.engine.core.sequence import Sequence
from tandem.engine.core.step import SampledToken, SequenceStep, StepPlan, StepResult

BLOCK = 4


def next_token(tokens: list[int]) -> int:
    """What the played model says after these tokens: a function of all of them."""
    return hashlib.blake2b(repr(tokens).encode(), digest_size=1).digest()[0]


def expected_tokens(prompt: list[int], max_tokens: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(max_tokens):
        tokens.append(next_token(tokens))
    return tokens[len(prompt) :]


class PlayedModel:
    """Runs plans against a cache of its own, and fails when a plan reads what was not written.

    Of the tokens in `spoils`, where they are guessed wrongly, numbers are not finite.
    """

    def __init__(self, blocks: int, spoils: frozenset[int] = frozenset()) -> None:
        self.slots: dict[int, int] = {}
        self.blocks = blocks
        self.spoils = spoils
        self.cleared: set[int] = set()

    def run(self, plan: StepPlan) -> StepResult:
        sampled = []
        written: set[int] = set()
        for step in plan.sequences:
            assert len(set(step.blocks)) == len(step.blocks)
            assert all(0 <= block < self.blocks for block in step.blocks)
            slots = [
                step.blocks[position // BLOCK] * BLOCK + position % BLOCK
                for position in range(step.start + len(step.tokens))
            ]
            new = slots[step.start :]
            assert not written.intersection(new), "two sequences write the same slot in one step"
            written.update(new)
            self.slots.update(zip(new, step.tokens, strict=True))
            sampled += self._sampled(step, [self.slots[slot] for slot in slots])
        return StepResult(plan.step, sampled)

    def _sampled(self, step: SequenceStep, tokens: list[int]) -> list[SampledToken]:
        known = len(tokens) - step.drafts
        found = []
        for count, spec in enumerate(step.samples()):
            assert spec.position == known + count
            right = next_token(tokens[: known + count])
            wrong = [token for token in tokens[known : known + count] if token in self.spoils]
            found.append(SampledToken(step.sequence_id, None if wrong else right))
        return step.verified(found)


class Guesses:
    """Knows what the played model will say, and says something else now and then."""

    def __init__(self, lengths: list[int], wrong: list[bool]) -> None:
        self._lengths = cycle(lengths)
        self._wrong = cycle(wrong)
        self.forgotten: list[int] = []

    def guess(self, sequences: Items[Sequence], most: Items[int]) -> list[list[int]]:
        return [
            self._one(sequence, min(bound, next(self._lengths)))
            for sequence, bound in zip(sequences, most, strict=True)
        ]

    def _one(self, sequence: Sequence, count: int) -> list[int]:
        tokens = list(sequence.tokens)
        for _ in range(count):
            tokens.append((next_token(tokens) + next(self._wrong)) % 256)
        return tokens[len(sequence.tokens) :]

    def observe(self, rows: int, seconds: float, sequences: int, tokens: int) -> None:
        assert rows >= tokens >= sequences > 0
        assert seconds == 0.0

    def forget(self, sequence: Sequence) -> None:
        self.forgotten.append(sequence.sequence_id)
