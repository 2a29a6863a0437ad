"""Continuous batching as plain rules: what runs in the next step, and what its result means.

    add ─► waiting ─► running ─► finished
              ▲          │
              └─ preempt ┘

Every step decodes all running sequences and spends what is left of the token budget on prefill, so
a long prompt is computed in chunks and nobody's decoding stalls. Up to half of it goes to prompts
that are short enough to be done with at once, whoever came before them; the rest first come first
served. So a short prompt waits for a step, and a long one takes twice its time at most.

Where that step would take twice as long for those that decode in it, since they are no fewer than
the prompt's tokens, the prompt goes ahead in a step of its own; they wait so once in nine steps.

A step in which sequences only decode may carry guesses at what they will say (`core.speculation`),
which are computed with it: of those that are right, each is a step saved.

Blocks for a whole prompt are taken at admission; when decoding runs out of blocks the sequence
admitted last is preempted and computed again later, with the same tokens.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from collections.abc import Sequence as Items
from enum import Enum
from typing import Protocol

import msgspec

from tandem.engine.core.block_manager import BlockManager
from tandem.engine.core.sequence import Sequence, SequenceState
from tandem.engine.core.step import SampledToken, SampleSpec, SequenceStep, StepPlan, StepResult
from tandem.errors import Overloaded

#: Steps in which sequences decode, between two that go ahead of them.
_BETWEEN_AHEAD = 8


class Guesser(Protocol):
    """Guesses how sequences go on. Called on the scheduler's thread, between steps."""

    def guess(self, sequences: Items[Sequence], most: Items[int]) -> list[list[int]]:
        """Token ids of the vocabulary to follow each sequence, no more than `most` of them."""
        ...

    def observe(self, rows: int, seconds: float, sequences: int, tokens: int) -> None:
        """A step of so many rows took so long, in which `sequences` only decoded, to `tokens`."""
        ...

    def forget(self, sequence: Sequence) -> None:
        """The sequence has ended."""
        ...


class SchedulerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """`step_tokens` bounds one forward pass, and so how long a prefill delays a decode."""

    max_sequences: int = 32
    max_waiting: int = 256
    step_tokens: int = 256


class Outcome(Enum):
    """What a sampled token does to its sequence."""

    CONTINUES = "continues"
    STOPPED = "stopped"  # an EOS or stop token id: the token is not part of the text
    LENGTH = "length"
    NOT_SAMPLED = "not_sampled"  # the logits were not finite, or the options broke the sampler


class Sampled(msgspec.Struct, frozen=True):
    sequence: Sequence
    token: SampledToken
    outcome: Outcome


class BatchScheduler:
    """Owns sequences and blocks; calls come from one thread.

    Several plans may be scheduled before the first is committed; they are committed in order. With
    `stages` above 1 each decodes its share of the sequences, so that no stage of a pipeline waits
    for all of them.
    """

    def __init__(
        self,
        blocks: BlockManager,
        limits: SchedulerLimits,
        *,
        stages: int = 1,
        guesser: Guesser | None = None,
    ) -> None:
        self._blocks = blocks
        self._limits = limits
        self._stages = stages
        self._guesser = guesser
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []  # in order of admission
        self._step = 0
        self._decode_steps: set[int] = set()  # under way, with a share of the decoding
        self._next_ahead = 0  # the first step that prompts may have for themselves
        #: Guesses that were computed, and those of them that were right.
        self.guessed = self.guessed_right = 0

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def free_blocks(self) -> int:
        return self._blocks.free

    def add(self, sequences: list[Sequence]) -> None:
        """Queues the choices of one request, all or none. Raises Overloaded over the bound."""
        if len(self._waiting) + len(sequences) > self._limits.max_waiting:
            raise Overloaded(
                f"{len(self._waiting)} sequences are waiting already; the limit is "
                f"{self._limits.max_waiting}; retry later"
            )
        self._waiting.extend(sequences)

    def finish(self, sequence: Sequence, *, poisoned: bool = False) -> None:
        """Removes a sequence in any state and frees its blocks; a second call does nothing."""
        if sequence.state is SequenceState.FINISHED:
            return
        if sequence.state is SequenceState.RUNNING:
            self._running.remove(sequence)
        else:
            self._waiting.remove(sequence)
        sequence.state = SequenceState.FINISHED
        self._blocks.release(sequence, poisoned=poisoned)
        if self._guesser is not None:
            self._guesser.forget(sequence)
        if not self._running and not self._waiting:
            self._blocks.check(())

    def void_cache(self) -> None:
        """After a failed step nothing in the cache can be trusted."""
        self._decode_steps.clear()
        self._blocks.forget_all()

    def schedule(self) -> StepPlan | None:
        """The next step, or None when there is nothing to run."""
        decoding = self._decoding()
        steps = self._ahead_of(len(decoding))
        decodes: list[SequenceStep] = []
        if not steps:
            ready = [(s, self._advance(s, 1)) for s in decoding if self._make_room(s)]
            steps = list(self._prefills(self._limits.step_tokens - len(ready)))
            decodes = [step for _, step in ready] if steps else list(self._with_guesses(ready))
        if not steps and not decodes:
            return None
        self._step += 1
        if decodes:
            self._decode_steps.add(self._step)
        return StepPlan(self._step, decodes + steps, self._blocks.take_dirty())

    def commit(self, plan: StepPlan, result: StepResult, seconds: float = 0.0) -> list[Sampled]:
        """Applies a result that took so long: advances the cache, appends tokens, finishes."""
        assert plan.step == result.step, "a result belongs to the plan that was just run"
        decoded = plan.step in self._decode_steps and plan.only_decodes
        self._decode_steps.discard(plan.step)
        planned = {step.sequence_id: step for step in plan.sequences}
        running = {sequence.sequence_id for sequence in self._running}
        tokens: defaultdict[int, list[SampledToken]] = defaultdict(list)
        for token in result.tokens:
            tokens[token.sequence_id].append(token)
            if token.token is None and token.sequence_id not in running:  # it was cancelled
                self._blocks.spoil(planned[token.sequence_id].blocks)
        sampled: list[Sampled] = []
        for sequence in tuple(self._running):
            step = planned.get(sequence.sequence_id)
            if step is not None and step.sample is None:
                sequence.computed += len(step.tokens)
                self._blocks.remember(sequence)
            elif step is not None:
                sampled += self._accept(sequence, step, tokens[sequence.sequence_id])
        if self._guesser is not None and decoded:
            self._guesser.observe(plan.rows, seconds, len(plan.sequences), len(result.tokens))
        return sampled

    def _decoding(self) -> list[Sequence]:
        """The sequences whose next token this step computes: their share of a pipeline.

        At most as many shares as stages: one more would only make every sequence wait for it.
        """
        if len(self._decode_steps) >= self._stages:
            return []
        decoding = [s for s in self._running if s.remaining <= 1]
        ready = [s for s in decoding if s.remaining == 1]
        return ready[: -(-len(decoding) // self._stages)]

    def _ahead_of(self, decoding: int) -> list[SequenceStep]:
        """Prompts of no more tokens than so many sequences decode, if it is time for that."""
        if not decoding or self._step < self._next_ahead:
            return []
        line = self._line()
        # What it has in the cache, the first to come in shows once it is in.
        if line and line[0].state is SequenceState.WAITING and not self._admit(line[0]):
            line = line[1:]
        steps = list(self._at_once(line, decoding))
        if steps:
            self._next_ahead = self._step + 1 + _BETWEEN_AHEAD
        return steps

    def _at_once(self, line: list[Sequence], budget: int) -> Iterator[SequenceStep]:
        """Those of a line that are done with in so many tokens, whoever came before them."""
        for sequence in line:
            waits = sequence.state is SequenceState.WAITING
            if waits and not (len(sequence.tokens) <= budget and self._overtakes(sequence)):
                continue
            if (count := sequence.remaining) <= budget:
                yield self._advance(sequence, count)
                budget -= count

    def _prefills(self, budget: int) -> Iterator[SequenceStep]:
        """What prefilling may take of a step: short prompts, then the others in order."""
        for step in self._at_once(self._line()[1:], budget // 2):
            yield step
            budget -= len(step.tokens)
        for sequence in self._prefilling():
            if budget <= 0:
                return
            count = min(budget, sequence.remaining)
            yield self._advance(sequence, count)
            budget -= count

    def _line(self) -> list[Sequence]:
        """Who prefills or waits to, in order; of samples that wait, the first of each prompt."""
        prefilling = [sequence for sequence in self._running if sequence.is_prefilling]
        first_of = {sequence.group: sequence for sequence in reversed(self._waiting)}
        waiting = [sequence for sequence in self._waiting if first_of[sequence.group] is sequence]
        return [*prefilling, *waiting]

    def _overtakes(self, sequence: Sequence) -> bool:
        """Admits a sequence before its turn, unless the first has waited long enough for room."""
        first = self._waiting[0]
        if first is sequence:
            return self._admit(sequence)
        if first.overtaken >= len(first.tokens) or not self._admit(sequence):
            return False
        first.overtaken += len(sequence.tokens)
        return True

    def _prefilling(self) -> Iterator[Sequence]:
        """Running sequences that still prefill, then those that can be admitted, in order."""
        yield from [sequence for sequence in self._running if sequence.is_prefilling]
        while self._waiting and self._admit(sequence := self._waiting[0]):
            yield sequence

    def _admit(self, sequence: Sequence) -> bool:
        """Starts a sequence that waits, if there is room for all that it has so far."""
        if len(self._running) >= self._limits.max_sequences:
            return False
        siblings = [s for s in self._running if s.group == sequence.group]
        if any(s.computed < self._blocks.reusable(s.prompt_length) for s in siblings):
            return False  # its sibling is computing the very blocks that it will reuse
        self._blocks.match_prefix(sequence)
        # A spare block for each running sequence, or they would preempt it at once.
        if not self._blocks.can_hold(sequence, len(sequence.tokens), spare=len(self._running)):
            self._blocks.release(sequence)
            return False
        self._waiting.remove(sequence)
        sequence.cached = max(sequence.cached, min(sequence.computed, sequence.prompt_length))
        self._blocks.grow(sequence, len(sequence.tokens))
        sequence.state = SequenceState.RUNNING
        self._running.append(sequence)
        return True

    def _make_room(self, sequence: Sequence) -> bool:
        """Room for one more token, by preempting the sequence admitted last if it must be."""
        while sequence.state is SequenceState.RUNNING:
            if self._blocks.can_hold(sequence, len(sequence.tokens)):
                self._blocks.grow(sequence, len(sequence.tokens))
                return True
            # What is under way has a place in a plan already, and this sequence has none yet.
            self._preempt([entry for entry in self._running if not entry.is_under_way][-1])
        return False

    def _with_guesses(
        self, decoding: list[tuple[Sequence, SequenceStep]]
    ) -> Iterator[SequenceStep]:
        """The steps of those that decode, with guesses as far as there is room for them."""
        if self._guesser is None or not decoding:
            yield from (step for _, step in decoding)
            return
        budget = max(0, self._limits.step_tokens - len(decoding))
        sequences = [sequence for sequence, _ in decoding]
        guesses = self._guesser.guess(sequences, [self._most(one) for one in sequences])
        for (sequence, step), guessed in zip(decoding, guesses, strict=True):
            drafts = guessed[: min(budget, self._most(sequence))]
            budget -= len(drafts)
            self._blocks.grow(sequence, len(sequence.tokens) + len(drafts))
            tokens, blocks = [*step.tokens, *drafts], list(sequence.blocks)
            yield msgspec.structs.replace(step, tokens=tokens, blocks=blocks, drafts=len(drafts))

    def _most(self, sequence: Sequence) -> int:
        """How many guesses behind its last token are of use, and take no block from others."""
        if not sequence.may_guess:
            return 0
        known = len(sequence.tokens)
        slots = (len(sequence.blocks) + self._blocks.free - len(self._running)) * (
            self._blocks.block_size
        )
        return max(0, min(sequence.params.max_tokens - sequence.output_length - 1, slots - known))

    def _preempt(self, sequence: Sequence, *, poisoned: bool = False) -> None:
        self._running.remove(sequence)
        self._blocks.release(sequence, poisoned=poisoned)
        sequence.state = SequenceState.WAITING
        self._waiting.appendleft(sequence)

    def _advance(self, sequence: Sequence, count: int) -> SequenceStep:
        start = sequence.planned
        last = count == sequence.remaining
        sequence.planned += count
        return SequenceStep(
            sequence_id=sequence.sequence_id,
            tokens=sequence.tokens[start : start + count],
            start=start,
            blocks=list(sequence.blocks),
            sample=_sample_spec(sequence) if last else None,
        )

    def _accept(
        self, sequence: Sequence, step: SequenceStep, tokens: list[SampledToken]
    ) -> list[Sampled]:
        """Appends what was sampled, up to the sequence's end; its cache has the right guesses."""
        sampled = list(self._appended(sequence, tokens))
        right = min(step.right(tokens), len(sampled))
        self.guessed += step.drafts
        self.guessed_right += right
        sequence.computed += len(step.tokens) - step.drafts + right
        sequence.planned = sequence.computed
        self._blocks.remember(sequence)
        spoilt = tokens[-1].token is None
        if sampled and sampled[-1].outcome is not Outcome.CONTINUES:
            self.finish(sequence, poisoned=spoilt)
        elif spoilt and step.drafts:
            # A guess may be at fault: computed again without any, the same tokens come.
            sequence.may_guess = False
            self._preempt(sequence, poisoned=True)
        elif spoilt:
            self.finish(sequence, poisoned=True)
            sampled.append(Sampled(sequence, tokens[-1], Outcome.NOT_SAMPLED))
        return sampled

    def _appended(self, sequence: Sequence, tokens: list[SampledToken]) -> Iterator[Sampled]:
        for one in tokens:
            if one.token is None:
                return
            sequence.tokens.append(one.token)
            outcome = Outcome.CONTINUES
            if one.token in sequence.params.stop_token_ids:
                outcome = Outcome.STOPPED
            elif sequence.output_length >= sequence.params.max_tokens:
                outcome = Outcome.LENGTH
            yield Sampled(sequence, one, outcome)
            if outcome is not Outcome.CONTINUES:
                return


def _sample_spec(sequence: Sequence) -> SampleSpec:
    """The request's options, and what is this token's own."""
    prompt, output = sequence.packed() if sequence.params.has_penalties else (b"", b"")
    return SampleSpec(
        position=len(sequence.tokens),
        choice=sequence.choice,
        prompt=prompt,
        output=output,
        **sequence.sampling_options,
    )
