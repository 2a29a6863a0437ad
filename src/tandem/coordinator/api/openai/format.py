"""Answers as OpenAI documents them: whole, and as the events of a stream."""

from __future__ import annotations

from secrets import token_hex

import msgspec

from tandem.coordinator.api.dialect import WholeChoice
from tandem.coordinator.api.http import sse
from tandem.coordinator.api.openai.errors import error_body
from tandem.coordinator.api.openai.schemas import GenerationRequest
from tandem.errors import TandemError
from tandem.protocol import Delta, FinishReason, TokenLogprob, Usage, padded_size

_encoder = msgspec.json.Encoder()
#: JSON has no infinity; OpenAI writes an impossible token so.
_LEAST_LOGPROB = -9999.0
_DONE = sse(b"[DONE]")
#: What goes into an event before its last brace.
_OBFUSCATION = b',"obfuscation":"'


class PromptTokensDetails(msgspec.Struct, frozen=True):
    cached_tokens: int


class UsageBody(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails

    @classmethod
    def of(cls, usage: Usage) -> UsageBody:
        return cls(
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.prompt_tokens + usage.completion_tokens,
            PromptTokensDetails(usage.cached_tokens),
        )


class TopLogprobBody(msgspec.Struct, frozen=True, gc=False):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobBody(msgspec.Struct, frozen=True, gc=False):
    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprobBody]


class ChatLogprobs(msgspec.Struct, frozen=True):
    content: list[TokenLogprobBody]
    refusal: None = None


class ChatMessageBody(msgspec.Struct, frozen=True):
    role: str
    content: str
    refusal: None = None


class ChatChoice(msgspec.Struct, frozen=True):
    index: int
    message: ChatMessageBody
    logprobs: msgspec.Raw
    finish_reason: FinishReason | None


class ChatDelta(msgspec.Struct, frozen=True, omit_defaults=True):
    role: str | None = None
    content: str | None = None


class ChatChunkChoice(msgspec.Struct, frozen=True):
    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class TextLogprobs(msgspec.Struct, frozen=True):
    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class TextChoice(msgspec.Struct, frozen=True):
    index: int
    text: str
    logprobs: msgspec.Raw
    finish_reason: FinishReason | None


Choices = list[ChatChoice] | list[ChatChunkChoice] | list[TextChoice]


class Body(msgspec.Struct, frozen=True):
    """A whole answer or one event; `usage` is null in a stream's events but the last."""

    id: str
    object: str
    created: int
    model: str
    choices: Choices
    usage: UsageBody | msgspec.UnsetType | None = msgspec.UNSET


class _Format:
    """What chat and text share: the fields that each body repeats, and the ends of a stream."""

    _id_prefix: str
    _whole_object: str
    _event_object: str

    def __init__(self, request: GenerationRequest, answer_id: str, created: int) -> None:
        self._id = f"{self._id_prefix}-{answer_id}"
        self._model = request.model
        self._created = created
        options = request.stream_options
        self._with_usage = options is not None and bool(options.include_usage)
        self._obfuscates = options is not None and bool(options.include_obfuscation)

    def end(self, usage: Usage) -> bytes:
        last = self._event([], UsageBody.of(usage)) if self._with_usage else b""
        return last + _DONE

    def error(self, error: TandemError) -> bytes:
        return sse(error_body(error))

    def _whole(self, choices: Choices, usage: Usage) -> bytes:
        return _encoder.encode(self._body(self._whole_object, choices, UsageBody.of(usage)))

    def _event(self, choices: Choices, usage: UsageBody | None = None) -> bytes:
        """One event: without usage it says null, when there will be one at the end."""
        shown = usage if usage is not None or self._with_usage else msgspec.UNSET
        event = _encoder.encode(self._body(self._event_object, choices, shown))
        return sse(_obfuscated(event) if self._obfuscates else event)

    def _body(
        self, kind: str, choices: Choices, usage: UsageBody | msgspec.UnsetType | None
    ) -> Body:
        return Body(self._id, kind, self._created, self._model, choices, usage)


class ChatFormat(_Format):
    _id_prefix = "chatcmpl"
    _whole_object = "chat.completion"
    _event_object = "chat.completion.chunk"

    def opening(self, choices: int) -> bytes:
        first = ChatDelta(role="assistant", content="")
        return b"".join(self._event([ChatChunkChoice(i, first)]) for i in range(choices))

    def event(self, delta: Delta) -> bytes:
        """The finish reason has an event of its own, as OpenAI sends it."""
        events = b""
        logprobs = _chat_logprobs(delta.logprobs)
        if delta.text or logprobs is not None:
            content = ChatDelta(content=delta.text)
            events += self._event([ChatChunkChoice(delta.index, content, logprobs)])
        if delta.finish is not None:
            end = ChatChunkChoice(delta.index, ChatDelta(), None, delta.finish)
            events += self._event([end])
        return events

    def whole(self, choices: dict[int, WholeChoice], usage: Usage) -> bytes:
        bodies = [
            ChatChoice(
                index,
                ChatMessageBody("assistant", "".join(choice.texts)),
                _encoded(_chat_logprobs(choice.logprobs)),
                choice.finish,
            )
            for index, choice in sorted(choices.items())
        ]
        return self._whole(bodies, usage)


class TextFormat(_Format):
    _id_prefix = "cmpl"
    _whole_object = _event_object = "text_completion"

    def __init__(self, request: GenerationRequest, answer_id: str, created: int) -> None:
        super().__init__(request, answer_id, created)
        self._offsets: dict[int, int] = {}

    def opening(self, choices: int) -> bytes:  # noqa: ARG002 - chat has one, text has not
        return b""

    def event(self, delta: Delta) -> bytes:
        if not delta.text and delta.logprobs is None and delta.finish is None:
            return b""
        offset = self._offsets.get(delta.index, 0)
        self._offsets[delta.index] = offset + len(delta.text)
        logprobs = _encoded(_text_logprobs(delta.logprobs, offset))
        return self._event([TextChoice(delta.index, delta.text, logprobs, delta.finish)])

    def whole(self, choices: dict[int, WholeChoice], usage: Usage) -> bytes:
        bodies = [
            TextChoice(
                index,
                "".join(choice.texts),
                _encoded(_text_logprobs(choice.logprobs, 0)),
                choice.finish,
            )
            for index, choice in sorted(choices.items())
        ]
        return self._whole(bodies, usage)


def _obfuscated(event: bytes) -> bytes:
    """With a field of random text that makes the size tell nothing of what the event says."""
    missing = padded_size(len(event) + len(_OBFUSCATION) + 1) - len(event) - len(_OBFUSCATION) - 1
    filling = token_hex(-(-missing // 2))[:missing].encode()
    return event[:-1] + _OBFUSCATION + filling + b'"}'


def _encoded(logprobs: ChatLogprobs | TextLogprobs | None) -> msgspec.Raw:
    """At once, choice by choice: the objects take several times what their JSON does."""
    return msgspec.Raw(_encoder.encode(logprobs))


def _chat_logprobs(given: list[TokenLogprob] | None) -> ChatLogprobs | None:
    if given is None:
        return None
    return ChatLogprobs(
        [
            TokenLogprobBody(
                entry.token,
                max(entry.logprob, _LEAST_LOGPROB),
                list(entry.raw),
                [
                    TopLogprobBody(top.token, max(top.logprob, _LEAST_LOGPROB), list(top.raw))
                    for top in entry.top
                ],
            )
            for entry in given
        ]
    )


def _text_logprobs(given: list[TokenLogprob] | None, offset: int) -> TextLogprobs | None:
    if given is None:
        return None
    offsets = []
    for entry in given:
        offsets.append(offset)
        offset += len(entry.token)
    return TextLogprobs(
        [entry.token for entry in given],
        [max(entry.logprob, _LEAST_LOGPROB) for entry in given],
        [{top.token: max(top.logprob, _LEAST_LOGPROB) for top in entry.top} for entry in given],
        offsets,
    )
