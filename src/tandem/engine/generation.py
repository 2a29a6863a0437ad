"""Requests and what comes out of them: choices with their text, logprobs, finish and usage."""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from tandem.engine.core.scheduler import Outcome, Sampled
from tandem.engine.core.sequence import SamplingParams, Sequence
from tandem.engine.core.step import SampledToken
from tandem.engine.text.detokenizer import StreamDetokenizer
from tandem.engine.text.stops import StopMatcher
from tandem.engine.text.tokenizer import Tokenizer
from tandem.errors import ExecutorFailed, TandemError


class Finish(StrEnum):
    STOP = "stop"
    LENGTH = "length"


class GenerationRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`samples` choices of each prompt. `deadline` is a time of the engine's clock, in seconds.

    `params.max_tokens` 0 means as many as fit. `produced` is for a request that was begun
    elsewhere: the tokens that each choice has so far, None for one that has finished. Only what
    follows them comes out. Requests of one `cache_scope` share cached prefixes, and only they.
    """

    request_id: str
    prompts: list[list[int]]
    samples: int
    params: SamplingParams
    stop: list[str]
    ignore_eos: bool
    deadline: float
    produced: list[list[int] | None] = []
    cache_scope: bytes = b""


class LogprobEntry(msgspec.Struct, frozen=True):
    text: str
    raw: bytes
    token_id: int
    logprob: float
    top: list[LogprobEntry]


class ChoiceDelta(msgspec.Struct, frozen=True):
    """`token_ids` are all that were generated, an end token too, which has no text or logprob."""

    index: int
    text: str
    token_ids: list[int]
    logprobs: list[LogprobEntry] | None
    finish: Finish | None


class Progress(msgspec.Struct, frozen=True):
    request_id: str
    deltas: list[ChoiceDelta]


class Prefilling(msgspec.Struct, frozen=True):
    """So many tokens of a request's prompts are computed, of those that have no token yet."""

    request_id: str
    tokens: int


class Completed(msgspec.Struct, frozen=True):
    request_id: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class Aborted(msgspec.Struct, frozen=True):
    request_id: str
    error: TandemError


EngineEvent = Progress | Prefilling | Completed | Aborted


@dataclass(eq=False)
class Choice:
    """One sequence's way to text."""

    index: int
    sequence: Sequence
    detokenizer: StreamDetokenizer
    stops: StopMatcher
    finish: Finish | None = None

    def replay(self) -> None:
        """Brings text and stops to where the tokens are that the sequence begins with."""
        for token in self.sequence.tokens[self.sequence.prompt_length :]:
            self.stops.feed(self.detokenizer.feed(token))

    def accept(self, sampled: Sampled, tokenizer: Tokenizer) -> ChoiceDelta:
        """The delta that one sampled token makes; sets `finish` when it is the last."""
        assert sampled.token.token is not None, "a poisoned sequence has no token"
        if sampled.outcome is Outcome.STOPPED:
            self.finish = Finish.STOP
            text = self.stops.feed(self.detokenizer.flush())
            return self._delta(text + self.stops.flush(), [sampled.token.token], None)
        text = self.stops.feed(self.detokenizer.feed(sampled.token.token))
        if self.stops.stopped:
            self.finish = Finish.STOP
        elif sampled.outcome is Outcome.LENGTH:
            self.finish = Finish.LENGTH
            text += self.stops.feed(self.detokenizer.flush()) + self.stops.flush()
        entries = None
        if sampled.token.logprob is not None:
            entries = [_logprob_entry(sampled.token, sampled.token.logprob, tokenizer)]
        return self._delta(text, [sampled.token.token], entries)

    def leave_out(self, sampled: Sampled) -> None:
        """A token of a step that went beyond a stop string: it is no part of the answer."""
        assert sampled.outcome is not Outcome.NOT_SAMPLED, "after others it comes in its own step"
        self.sequence.tokens.pop()

    def _delta(
        self, text: str, token_ids: list[int], logprobs: list[LogprobEntry] | None
    ) -> ChoiceDelta:
        return ChoiceDelta(self.index, text, token_ids, logprobs, self.finish)


@dataclass(eq=False)
class Generation:
    """A request under way."""

    request_id: str
    deadline: float
    prompt_tokens: int
    choices: dict[int, Choice] = field(default_factory=dict)  # by sequence id

    @property
    def done(self) -> bool:
        return all(choice.finish is not None for choice in self.choices.values())

    @property
    def prefilled(self) -> int:
        """Tokens that are computed of its sequences, while more than one of any is left to be."""
        sequences = self.sequences()
        if all(sequence.remaining <= 1 for sequence in sequences):
            return 0
        return sum(sequence.computed for sequence in sequences)

    def sequences(self) -> list[Sequence]:
        return [choice.sequence for choice in self.choices.values()]

    def accept(self, sampled: Items[Sampled], tokenizer: Tokenizer) -> list[EngineEvent]:
        """Events of one step's tokens for this request."""
        deltas: list[ChoiceDelta] = []
        for entry in sampled:
            choice = self.choices[entry.sequence.sequence_id]
            if choice.finish is not None:
                choice.leave_out(entry)
            elif entry.outcome is Outcome.NOT_SAMPLED:
                return [Aborted(self.request_id, _not_sampled())]
            else:
                deltas.append(choice.accept(entry, tokenizer))
        events: list[EngineEvent] = [Progress(self.request_id, deltas)]
        if self.done:
            events.append(self._completed())
        return events

    def _completed(self) -> Completed:
        sequences = self.sequences()
        # Samples of one prompt share it: what the first one found cached counts, once a prompt.
        first_of_prompt = {sequence.group: sequence for sequence in reversed(sequences)}
        return Completed(
            self.request_id,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=sum(sequence.output_length for sequence in sequences),
            cached_tokens=sum(sequence.cached for sequence in first_of_prompt.values()),
        )


def _not_sampled() -> ExecutorFailed:
    return ExecutorFailed(
        "no token could be drawn: the model's logits were not finite (a wider dtype helps), or "
        "sampling failed"
    )


def _logprob_entry(sampled: SampledToken, logprob: float, tokenizer: Tokenizer) -> LogprobEntry:
    assert sampled.token is not None, "asked only for a token that was sampled"

    def entry(token_id: int, value: float, top: list[LogprobEntry]) -> LogprobEntry:
        text, raw = tokenizer.shown(token_id)
        return LogprobEntry(text, raw, token_id, value, top)

    top = [entry(token_id, value, []) for token_id, value in sampled.top]
    return entry(sampled.token, logprob, top)
