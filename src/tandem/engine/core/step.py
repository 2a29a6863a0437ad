"""What crosses between scheduler and executor: plain data, so that a link can carry it.

The scheduler emits a `StepPlan`; an executor runs it and returns a `StepResult`. `step` numbers
rise by one, so that a rank notices a lost or repeated plan.
"""

from __future__ import annotations

import msgspec

from tandem.engine.core.sampling import SamplingOptions


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


class SequenceStep(msgspec.Struct, frozen=True):
    """Tokens to compute for one sequence from position `start`; `sample` after the last."""

    sequence_id: int
    tokens: list[int]
    start: int
    blocks: list[int]
    sample: SampleSpec | None


class StepPlan(msgspec.Struct, frozen=True):
    """One forward pass. `clear` are blocks to zero first: they held NaN or infinity."""

    step: int
    sequences: list[SequenceStep]
    clear: list[int] = []


class SampledToken(msgspec.Struct, frozen=True):
    """`token` None: none could be drawn. `top` are (token id, logprob), likeliest first."""

    sequence_id: int
    token: int | None
    logprob: float | None = None
    top: list[tuple[int, float]] = []


class StepResult(msgspec.Struct, frozen=True):
    step: int
    tokens: list[SampledToken]
