"""Answers as OpenAI documents them: whole, and as the events of a stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from starlette.responses import Response

from tandem.protocol import Delta, FinishReason, TokenLogprob, Usage

_encoder = msgspec.json.Encoder()
#: JSON has no infinity; OpenAI writes an impossible token so.
_LEAST_LOGPROB = -9999.0


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


class TopLogprobBody(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobBody(msgspec.Struct, frozen=True):
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
    logprobs: ChatLogprobs | None
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
    logprobs: TextLogprobs | None
    finish_reason: FinishReason | None


class Body(msgspec.Struct, frozen=True):
    """A whole answer or one event; `usage` is null in a stream's events but the last."""

    id: str
    object: str
    created: int
    model: str
    choices: list[ChatChoice] | list[ChatChunkChoice] | list[TextChoice]
    usage: UsageBody | msgspec.UnsetType | None = msgspec.UNSET


@dataclass
class Whole:
    """One choice as it grows."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] | None = None
    finish: FinishReason | None = None

    def add(self, delta: Delta) -> None:
        self.texts.append(delta.text)
        self.finish = delta.finish
        if delta.logprobs is not None:
            self.logprobs = [*(self.logprobs or ()), *delta.logprobs]


class Format(Protocol):
    """How one request's answer is written: as chat or as text."""

    def opening(self, choices: int) -> bytes:
        """The events that come before the first token, if any."""

    def event(self, delta: Delta) -> bytes: ...

    def usage_event(self, usage: Usage) -> bytes: ...

    def whole(self, choices: dict[int, Whole], usage: Usage) -> bytes: ...


class ChatFormat:
    def __init__(self, request_id: str, model: str, created: int, *, with_usage: bool) -> None:
        self._id = f"chatcmpl-{request_id}"
        self._model = model
        self._created = created
        self._usage = None if with_usage else msgspec.UNSET

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

    def usage_event(self, usage: Usage) -> bytes:
        return self._event([], UsageBody.of(usage))

    def whole(self, choices: dict[int, Whole], usage: Usage) -> bytes:
        bodies = [
            ChatChoice(
                index,
                ChatMessageBody("assistant", "".join(choice.texts)),
                _chat_logprobs(choice.logprobs),
                choice.finish,
            )
            for index, choice in sorted(choices.items())
        ]
        body = Body(
            self._id, "chat.completion", self._created, self._model, bodies, UsageBody.of(usage)
        )
        return _encoder.encode(body)

    def _event(self, choices: list[ChatChunkChoice], usage: UsageBody | None = None) -> bytes:
        body = Body(
            self._id,
            "chat.completion.chunk",
            self._created,
            self._model,
            choices,
            self._usage if usage is None else usage,
        )
        return sse(_encoder.encode(body))


class TextFormat:
    def __init__(self, request_id: str, model: str, created: int, *, with_usage: bool) -> None:
        self._id = f"cmpl-{request_id}"
        self._model = model
        self._created = created
        self._usage = None if with_usage else msgspec.UNSET
        self._offsets: dict[int, int] = {}

    def opening(self, choices: int) -> bytes:  # noqa: ARG002 - chat has one, text has not
        return b""

    def event(self, delta: Delta) -> bytes:
        if not delta.text and delta.logprobs is None and delta.finish is None:
            return b""
        offset = self._offsets.get(delta.index, 0)
        self._offsets[delta.index] = offset + len(delta.text)
        logprobs = _text_logprobs(delta.logprobs, offset)
        choices = [TextChoice(delta.index, delta.text, logprobs, delta.finish)]
        return sse(_encoder.encode(self._body(choices, self._usage)))

    def usage_event(self, usage: Usage) -> bytes:
        return sse(_encoder.encode(self._body([], UsageBody.of(usage))))

    def whole(self, choices: dict[int, Whole], usage: Usage) -> bytes:
        bodies = [
            TextChoice(
                index, "".join(choice.texts), _text_logprobs(choice.logprobs, 0), choice.finish
            )
            for index, choice in sorted(choices.items())
        ]
        return _encoder.encode(self._body(bodies, UsageBody.of(usage)))

    def _body(self, choices: list[TextChoice], usage: UsageBody | msgspec.UnsetType | None) -> Body:
        return Body(self._id, "text_completion", self._created, self._model, choices, usage)


def json_response(body: msgspec.Struct) -> Response:
    return Response(_encoder.encode(body), media_type="application/json")


def sse(data: bytes) -> bytes:
    """One server-sent event. JSON has no raw line ends, so one `data:` line is enough."""
    return b"data: " + data + b"\n\n"


DONE = sse(b"[DONE]")


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
