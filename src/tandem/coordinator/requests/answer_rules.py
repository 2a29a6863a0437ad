"""What an honest provider can answer to a request, and what is a lie. Pure rules.

What a provider says of tokens is handed on, billed and learned from, so whatever cannot be true is
a ProtocolError: the provider is cut off, and the request goes on elsewhere. What one message may
hold at all, `tandem.protocol` bounds while it decodes.
"""

from __future__ import annotations

import msgspec

from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.coordinator.requests.produced import Produced
from tandem.errors import ProtocolError
from tandem.protocol import ChatPrompt, Chunk, Delta, Finished, ModelInfo, Prompt, TextPrompt

#: A choice's text, for each of its tokens and over all.
_TEXT_PER_TOKEN, _TEXT_OVER = 1024, 4096
#: What normalisation and a template make of a prompt at most: tokens for each of its characters,
#: for each message, and over all.
_TOKENS_PER_CHARACTER, _TOKENS_PER_MESSAGE, _TOKENS_OVER = 16, 256, 16_384
#: Log probabilities in one chunk, alternatives included: each is written for the consumer.
_LOGPROBS = 8192
#: Chunks without a token that say nothing new.
_IDLE_CHUNKS = 16


class Expected(msgspec.Struct, frozen=True):
    """What is left of a request, and what its provider knows.

    `room` is how many tokens each choice that still runs may get, `produced` how many came from
    other providers, and the prompts have `least_prompt` to `most_prompt` tokens.
    """

    room: dict[int, int]
    least_prompt: int
    most_prompt: int
    produced: int = 0
    vocabulary: int = 0
    logprobs: bool = False

    @classmethod
    def of(
        cls,
        request: InferenceRequest,
        produced: Produced,
        turn: frozenset[int],
        info: ModelInfo,
    ) -> Expected:
        task = request.task
        least, most = (sum(sizes) for sizes in zip(*map(_prompt_tokens, task.prompts), strict=True))
        most_output = info.context_length if task.most_output is None else task.most_output
        return cls(
            {i: max(1, most_output - produced.of(i)) for i in turn},
            least,
            min(most, max(least, info.context_length * len(task.prompts))),
            produced.tokens,
            info.vocabulary,
            task.wants_logprobs,
        )


class AnswerCheck:
    """One answer, as it comes."""

    def __init__(self, expected: Expected) -> None:
        #: Of this provider's prompts and tokens, 0 until it has said or sent any.
        self.prompt_tokens = 0
        self.tokens = 0
        self._expected = expected
        self._room = dict(expected.room)
        self._text = dict.fromkeys(expected.room, 0)
        self._prefilled = 0
        self._idle = 0

    def chunk(self, chunk: Chunk) -> bool:
        """Whether the request has got on. Raises ProtocolError."""
        moves = chunk.prefilled > self._prefilled
        if chunk.prompt_tokens:
            moves = self._prompt(chunk.prompt_tokens) or moves
        self._prefilled = max(self._prefilled, chunk.prefilled)
        choices = max(1, len(self._expected.room))
        if self._prefilled > (self.prompt_tokens + self._expected.produced) * choices:
            raise ProtocolError("more tokens were prefilled than there are")
        before = self.tokens, len(self._room)
        for delta in chunk.deltas:
            self._delta(delta)
        if _logprobs(chunk) > _LOGPROBS:
            raise ProtocolError(f"a chunk has at most {_LOGPROBS} log probabilities")
        moves = moves or (self.tokens, len(self._room)) != before
        self._idle += not moves
        if self._idle > _IDLE_CHUNKS:
            raise ProtocolError(f"more than {_IDLE_CHUNKS} chunks said nothing new")
        return moves

    def finished(self, answer: Finished) -> None:
        """Raises ProtocolError; also when a choice has not finished: an end too early is none."""
        if self._room:
            raise ProtocolError(f"the answer ended with {len(self._room)} choices unfinished")
        said = answer.usage
        self._prompt(said.prompt_tokens)
        # Whether tokens of before count is each version's own: what is billed is counted here.
        if not self.tokens <= said.completion_tokens <= self.tokens + self._expected.produced:
            raise ProtocolError(f"{said.completion_tokens} tokens are said, {self.tokens} came")

    def _prompt(self, tokens: int) -> bool:
        """Whether this is news."""
        if self.prompt_tokens not in {0, tokens}:
            raise ProtocolError(f"the prompt had {self.prompt_tokens} tokens, and now {tokens}")
        if not self._expected.least_prompt <= tokens <= self._expected.most_prompt:
            raise ProtocolError(f"a prompt such as this one cannot have {tokens} tokens")
        news, self.prompt_tokens = self.prompt_tokens != tokens, tokens
        return news

    def _delta(self, delta: Delta) -> None:
        index, tokens = delta.index, len(delta.token_ids)
        if index not in self._room:
            raise ProtocolError(f"choice {index} is not one that still runs")
        room = self._room[index] = self._room[index] - tokens
        if room < 0:
            raise ProtocolError(f"choice {index} got more tokens than were asked for")
        self.tokens += tokens
        self._text[index] += len(delta.text)
        so_far = self._expected.room[index] - room + self._expected.produced
        if self._text[index] > _TEXT_PER_TOKEN * so_far + _TEXT_OVER:
            raise ProtocolError(f"choice {index} has too much text for {so_far} tokens")
        self._check_ids(delta)
        if delta.finish is not None:
            del self._room[index]

    def _check_ids(self, delta: Delta) -> None:
        vocabulary, entries = self._expected.vocabulary, delta.logprobs
        if vocabulary and delta.token_ids and max(delta.token_ids) >= vocabulary:
            raise ProtocolError(f"choice {delta.index} got a token that the model has not")
        if entries is not None and not (
            self._expected.logprobs and len(entries) <= len(delta.token_ids)
        ):
            raise ProtocolError(f"choice {delta.index} got log probabilities that are of no token")


def _logprobs(chunk: Chunk) -> int:
    return sum(
        1 + len(entry.top)
        for delta in chunk.deltas
        if delta.logprobs is not None
        for entry in delta.logprobs
    )


def _prompt_tokens(prompt: Prompt) -> tuple[int, int]:
    """How many there are at least and at most."""
    if isinstance(prompt, ChatPrompt):
        characters = sum(len(m.role) + len(m.content) + len(m.name or "") for m in prompt.messages)
        most = _TOKENS_PER_CHARACTER * characters + _TOKENS_PER_MESSAGE * len(prompt.messages)
        return 0, most + _TOKENS_OVER
    if isinstance(prompt, TextPrompt):
        return 0, _TOKENS_PER_CHARACTER * len(prompt.text) + _TOKENS_OVER
    return len(prompt.token_ids), len(prompt.token_ids)
