"""What crosses between scheduler and executor: plain data, so that a link can carry it.

The scheduler emits a `StepPlan`; an executor runs it and returns a `StepResult`. `step` numbers
rise by one, so that a rank notices a lost or repeated plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile

import msgspec

from tandem.engine.core.sampling import SamplingOptions, pack


class SampleSpec(SamplingOptions, frozen=True, omit_defaults=True):
    """How to choose the next token of a sequence.

    The random number is keyed by (`seed`, `choice`, `position`) and nothing else, so a token does
    not depend on the batch, the rank or the provider that made it. `prompt` and `output` are packed
    token ids for the penalties, filled only when a penalty is on.
    """

    position: int
    choice: int = 0
    prompt: bytes = b""
    output: bytes = b""

    def after(self, tokens: Sequence[int]) -> SampleSpec:
        """The same for the place behind some more tokens of the answer."""
        output = self.output + pack(tokens) if self.has_penalties else b""
        position = self.position + len(tokens)
        return msgspec.structs.replace(self, position=position, output=output)


class SequenceStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens to compute for one sequence from position `start`; `sample` after the last.

    The last `drafts` tokens are guesses at what will be sampled: then a token is sampled before
    each of them too, and counts as long as all guesses before it were right.
    """

    sequence_id: int
    tokens: list[int]
    start: int
    blocks: list[int]
    sample: SampleSpec | None
    drafts: int = 0

    @property
    def drafted(self) -> list[int]:
        return self.tokens[len(self.tokens) - self.drafts :]

    def samples(self) -> list[SampleSpec]:
        """How to choose a token after each of the last 1 + `drafts` tokens; none if none is due."""
        if self.sample is None:
            return []
        drafted = self.drafted
        after = (self.sample.after(drafted[:count]) for count in range(1, self.drafts + 1))
        return [self.sample, *after]

    def verified(self, sampled: Sequence[SampledToken]) -> list[SampledToken]:
        """What counts of the tokens of `samples`: up to the one in the first wrong guess's place.

        Behind those stands one without a token if any is: then numbers in the cache are not finite.
        """
        drawn = list(takewhile(lambda one: one.token is not None, sampled))
        spoiled = [one for one in sampled if one.token is None]
        return drawn[: self.right(drawn) + 1] + spoiled[:1]

    def right(self, sampled: Sequence[SampledToken]) -> int:
        """How many drafts, up to the first that is not, are what was sampled in their place."""
        pairs = zip(self.drafted, sampled, strict=False)
        return len(list(takewhile(lambda pair: pair[0] == pair[1].token, pairs)))


class StepPlan(msgspec.Struct, frozen=True):
    """One forward pass. `clear` are blocks to zero first: they held NaN or infinity."""

    step: int
    sequences: list[SequenceStep]
    clear: list[int] = []

    @property
    def rows(self) -> int:
        return sum(len(step.tokens) for step in self.sequences)

    @property
    def only_decodes(self) -> bool:
        return all(step.sample and len(step.tokens) == 1 + step.drafts for step in self.sequences)


class SampledToken(msgspec.Struct, frozen=True):
    """`token` None: none could be drawn. `top` are (token id, logprob), likeliest first."""

    sequence_id: int
    token: int | None
    logprob: float | None = None
    top: list[tuple[int, float]] = []


class StepResult(msgspec.Struct, frozen=True):
    """A sequence's tokens are adjacent and in order: one, and as many more as drafts were right."""

    step: int
    tokens: list[SampledToken]
