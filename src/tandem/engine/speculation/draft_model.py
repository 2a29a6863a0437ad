"""Guesses of a smaller model of the same vocabulary, which says what it finds likeliest.

It runs where the scheduler does, has a cache of its own, and guesses for all sequences of a step
together, a token a round. A prompt it reads once a sequence is worth guessing for, a piece a step.
Its failures cost guesses and no request.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile

import msgspec
import structlog

from tandem.engine.core.block_manager import BlockManager
from tandem.engine.core.executor import Executor
from tandem.engine.core.sequence import Sequence as Tokens
from tandem.engine.core.step import SampleSpec, SequenceStep, StepPlan
from tandem.engine.speculation.costs import KEPT, NEEDED, typical

log = structlog.get_logger(__name__)

#: Tokens of a round: those of a prompt that is read take what those that guess leave.
_ROUND = 256
#: So many tokens behind, a sequence still guesses in the same round as it catches up.
_NEAR = 16
#: How likely a guess is before any was made, and what that weighs.
_FIRST_RATE, _FIRST_WEIGHT = 0.7, 2.0
_COUNTED = 32.0
#: What is left of the counts after a step without a guess: bad luck does not last for ever.
_FADING = 63 / 64
_UNLIKELY = 0.02
#: So many steps without a round halve what it is taken to cost: others may have made it long.
_UNTRIED_STEPS = 128


class DraftLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Ids from `vocabulary` on the draft model cannot read, and from `guessable` on not say."""

    vocabulary: int
    guessable: int
    context_length: int


@dataclass(eq=False)
class _Draft:
    """One sequence as the draft model has it: what is `known`, and the guesses behind that."""

    own: Tokens
    known: int
    right: float = 0.0
    wrong: float = 0.0
    #: The model cannot read its tokens, or fails on them.
    unfit: bool = False

    @property
    def rate(self) -> float:
        first = _FIRST_RATE * _FIRST_WEIGHT
        return (self.right + first) / (self.right + self.wrong + _FIRST_WEIGHT)

    @property
    def behind(self) -> int:
        return len(self.own.tokens) - self.own.computed

    @property
    def may_go_on(self) -> bool:
        return not self.unfit and self.behind > 0

    def follow(self, tokens: list[int]) -> list[int]:
        """What was said since, which it knows then: of its guesses the right ones stay computed."""
        said, guesses = tokens[self.known :], self.own.tokens[self.known :]
        pairs = list(zip(guesses, said, strict=False))
        right = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
        self.right += right
        self.wrong += right < len(pairs)
        kept = _FADING if not guesses else 0.5 if self.right + self.wrong > _COUNTED else 1.0
        self.right *= kept
        self.wrong *= kept
        self.own.tokens[self.known :] = said
        # The last token is always left to compute: what follows it is to be guessed.
        self.own.computed = min(self.own.computed, self.known + right, len(tokens) - 1)
        self.known = len(tokens)
        return said


class DraftModel:
    """Implements `tandem.engine.speculation.adaptive.Source`."""

    def __init__(
        self,
        executor: Executor,
        blocks: BlockManager,
        limits: DraftLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._executor = executor
        self._blocks = blocks
        self._limits = limits
        self._clock = clock
        self._drafts: dict[int, _Draft] = {}
        self._steps = 0
        self._rounds_s: deque[float] = deque(maxlen=KEPT)
        self._untried = 0
        self._broken = False

    @property
    def round_s(self) -> float:
        if len(self._rounds_s) < NEEDED:
            return 0.0
        return typical(self._rounds_s) / (1 + self._untried / _UNTRIED_STEPS)

    def chances(self, sequences: Sequence[Tokens], most: Sequence[int]) -> list[list[float]]:
        return [
            self._chances(self._draft_of(sequence), bound)
            for sequence, bound in zip(sequences, most, strict=True)
        ]

    def guess(self, sequences: Sequence[Tokens], counts: Sequence[int]) -> list[list[int]]:
        drafts = [self._drafts[sequence.sequence_id] for sequence in sequences]
        self._untried += 1
        try:
            self._run([pair for pair in zip(drafts, counts, strict=True) if pair[1]])
        # The boundary to arbitrary model code, as in the engine: requests go on without guesses.
        except Exception as error:
            log.exception("draft_model_failed", error=type(error).__name__)
            self._broken = True
        return [draft.own.tokens[draft.known :] for draft in drafts]

    def forget(self, sequence: Tokens) -> None:
        draft = self._drafts.pop(sequence.sequence_id, None)
        if draft is not None:
            self._blocks.release(draft.own)

    def _draft_of(self, sequence: Tokens) -> _Draft:
        draft = self._drafts.get(sequence.sequence_id)
        if draft is None:
            draft = self._drafts[sequence.sequence_id] = _Draft(_copy(sequence), 0)
        said = draft.follow(sequence.tokens)
        if any(token >= self._limits.vocabulary for token in said):
            draft.unfit = True
        self._blocks.remember(draft.own)
        return draft

    def _chances(self, draft: _Draft, bound: int) -> list[float]:
        room = self._limits.context_length - len(draft.own.tokens)
        if self._broken or draft.unfit:
            return []
        likely = (draft.rate**depth for depth in range(1, min(bound, room) + 1))
        return list(takewhile(lambda chance: chance >= _UNLIKELY, likely))

    def _run(self, wanted: list[tuple[_Draft, int]]) -> None:
        asked = [draft for draft, _ in wanted]
        wanted = [pair for pair in wanted if self._has_room(*pair, asked)]
        self._read([draft for draft, _ in wanted if draft.behind > _NEAR])
        wanted = [pair for pair in wanted if pair[0].behind <= _NEAR]
        while wanted:
            began = self._clock()
            self._step([_next(draft.own) for draft, _ in wanted])
            self._rounds_s.append(self._clock() - began)
            self._untried = 0
            # Whoever got no token has ended.
            wanted = [(draft, left - 1) for draft, left in wanted if left > 1 and draft.may_go_on]

    def _has_room(self, draft: _Draft, count: int, asked: list[_Draft]) -> bool:
        """Makes room for so many guesses, at the cost of those that nobody asks for just now."""
        own, length = draft.own, len(draft.own.tokens) + count
        if not own.blocks:
            self._blocks.match_prefix(own)
        if not self._blocks.can_hold(own, length):
            for other in self._drafts.values():
                if other not in asked:
                    self._blocks.release(other.own)
        if not self._blocks.can_hold(own, length):
            return False
        self._blocks.grow(own, length)
        return True

    def _read(self, drafts: list[_Draft]) -> None:
        """A piece of each prompt, all but its last token, as far as a step goes."""
        budget, steps = _ROUND, []
        for own in (draft.own for draft in drafts):
            count = min(budget, len(own.tokens) - 1 - own.computed)
            if count > 0:
                tokens = own.tokens[own.computed : own.computed + count]
                steps.append(
                    SequenceStep(own.sequence_id, tokens, own.computed, list(own.blocks), None)
                )
                budget -= count
        if steps:
            self._step(steps)

    def _step(self, steps: list[SequenceStep]) -> None:
        """Computes them; a token that was drawn and can be said stands behind its sequence's."""
        self._steps += 1
        self._executor.submit(StepPlan(self._steps, steps, self._blocks.take_dirty()))
        drawn = {one.sequence_id: one.token for one in self._executor.collect().tokens}
        for step in steps:
            draft = self._drafts[step.sequence_id]
            draft.own.computed += len(step.tokens)
            token = drawn.get(step.sequence_id)
            if token is not None and token < self._limits.guessable:
                draft.own.tokens.append(token)
            elif step.sample is not None and token is None:
                draft.unfit = True
                self._blocks.release(draft.own, poisoned=True)


def _copy(sequence: Tokens) -> Tokens:
    """For a cache of its own; without tokens, which it follows."""
    return Tokens(
        sequence.sequence_id,
        sequence.group,
        sequence.choice,
        [],
        sequence.params,
        sequence.prompt_length,
        sequence.cache_scope,
    )


def _next(own: Tokens) -> SequenceStep:
    """What is not computed yet, and a token drawn as the request's own are, by the same number."""
    params = own.params
    spec = SampleSpec(
        position=len(own.tokens),
        choice=own.choice,
        seed=params.seed,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        min_p=params.min_p,
    )
    tokens = own.tokens[own.computed :]
    return SequenceStep(own.sequence_id, tokens, own.computed, list(own.blocks), spec)
