"""`/v1/chat/completions` and `/v1/completions`: raw ASGI, because every token passes here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from tandem.coordinator.accounts.authentication import Authenticator
from tandem.coordinator.accounts.records import KeyRecord
from tandem.coordinator.api.body import ConsumerGone, read_body, while_connected
from tandem.coordinator.api.decode import RequestDecoder
from tandem.coordinator.api.errors import error_json
from tandem.coordinator.api.openai.format import (
    DONE,
    ChatFormat,
    Format,
    TextFormat,
    Whole,
    sse,
)
from tandem.coordinator.api.openai.schemas import (
    ChatCompletionRequest,
    CompletionRequest,
    GenerationRequest,
)
from tandem.coordinator.api.openai.translate import request_of_chat, request_of_completion
from tandem.coordinator.api.pace import Pacer
from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.requests import trace
from tandem.coordinator.requests.dispatch import Dispatcher
from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.coordinator.requests.run import RequestRun
from tandem.coordinator.requests.trace import Trace
from tandem.errors import InvalidRequest, TandemError
from tandem.protocol import Trust
from tandem.runtime import new_id

log = structlog.get_logger(__name__)

R = TypeVar("R", bound=GenerationRequest)
_LAST_WRITE_TIMEOUT_S = 10.0
_MIN_TRUST = b"x-tandem-min-trust"
_JSON = [(b"content-type", b"application/json")]
_SSE = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold tokens back
]


class _Caller(msgspec.Struct, frozen=True):
    """Who asked when (Unix time), and the least trust that this request wants of a provider."""

    key: KeyRecord | None
    min_trust: Trust
    wants_trace: bool
    received: float

    def trace_of(self, run: RequestRun) -> Trace | None:
        return run.trace(self.received) if self.wants_trace else None


class GenerateEndpoint(Generic[R]):
    """One route: how its requests are read and how its answers are written."""

    def __init__(
        self,
        kind: type[R],
        translate: Callable[[R], InferenceRequest],
        answer: type[ChatFormat | TextFormat],
        *,
        config: CoordinatorConfig,
        dispatcher: Dispatcher,
        authenticator: Authenticator,
        pacer: Pacer,
    ) -> None:
        self._pacer = pacer
        self._decoder = RequestDecoder(kind)
        self._translate = translate
        self._format = answer
        self._config = config
        self._dispatcher = dispatcher
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises TandemError as long as nothing was sent; later errors are events of the stream."""
        try:
            await self._answer(scope, receive, send)
        except ConsumerGone:
            log.info("consumer_gone", path=scope["path"])

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = time.time()
        # The body first, so that whoever is refused has been heard out and reads the reason.
        body = await read_body(
            receive,
            max_bytes=self._config.max_body_bytes,
            timeout_s=self._config.body_timeout_s,
        )
        await self._pacer.wait_turn()
        key = await self._authenticator.authenticate(_header(scope, b"authorization"))
        wants_trace = _header(scope, trace.HEADER) is not None
        caller = _Caller(key, _min_trust(scope), wants_trace, received)
        request = self._decoder.decode(body)
        del body
        wanted = self._translate(request)
        options = request.stream_options
        answer = self._format(
            new_id(),
            request.model,
            int(time.time()),
            with_usage=options is not None and bool(options.include_usage),
        )
        work = self._stream if request.stream else self._whole
        await while_connected(receive, partial(work, wanted, caller, answer, request, send))

    async def _whole(
        self, wanted: InferenceRequest, caller: _Caller, answer: Format, _: R, send: Send
    ) -> None:
        choices = {index: Whole() for index in range(wanted.choices)}
        async with self._dispatcher.dispatch(wanted, caller.key, caller.min_trust) as stream:
            async for deltas in stream:
                for delta in deltas:
                    choices[delta.index].add(delta)
        assert stream.usage is not None
        body = answer.whole(choices, stream.usage)
        headers = _with_length(body)
        if (times := caller.trace_of(stream)) is not None:
            headers.append(trace.header(times))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _stream(
        self, wanted: InferenceRequest, caller: _Caller, answer: Format, request: R, send: Send
    ) -> None:
        started = False
        try:
            async with self._dispatcher.dispatch(wanted, caller.key, caller.min_trust) as stream:
                async for deltas in stream:
                    events = b"".join(map(answer.event, deltas))
                    if not started:
                        # Only now: an error before the first token still has its HTTP status.
                        await send({"type": "http.response.start", "status": 200, "headers": _SSE})
                        started = True
                        events = answer.opening(wanted.choices) + events
                    if events:
                        await send(_piece(events))
            assert stream.usage is not None
            counts = request.stream_options is not None and request.stream_options.include_usage
            end = answer.usage_event(stream.usage) if counts else b""
            if (times := caller.trace_of(stream)) is not None:
                end += trace.comment(times)
            end += DONE
        except TandemError as error:
            if not started:
                raise
            log.warning("stream_failed", code=error.code)
            end = sse(error_json(error))
        await _send_last(send, end)


def chat_endpoint(
    config: CoordinatorConfig, dispatcher: Dispatcher, authenticator: Authenticator, pacer: Pacer
) -> GenerateEndpoint[ChatCompletionRequest]:
    return GenerateEndpoint(
        ChatCompletionRequest,
        request_of_chat,
        ChatFormat,
        config=config,
        dispatcher=dispatcher,
        authenticator=authenticator,
        pacer=pacer,
    )


def completion_endpoint(
    config: CoordinatorConfig, dispatcher: Dispatcher, authenticator: Authenticator, pacer: Pacer
) -> GenerateEndpoint[CompletionRequest]:
    return GenerateEndpoint(
        CompletionRequest,
        request_of_completion,
        TextFormat,
        config=config,
        dispatcher=dispatcher,
        authenticator=authenticator,
        pacer=pacer,
    )


async def _send_last(send: Send, events: bytes) -> None:
    """The request's deadline does not cover this: a consumer who reads nothing is given up."""
    try:
        async with asyncio.timeout(_LAST_WRITE_TIMEOUT_S):
            await send(_piece(events, more=False))
    except TimeoutError:
        raise ConsumerGone from None


def _piece(events: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": events, "more_body": more}


def _with_length(body: bytes) -> list[tuple[bytes, bytes]]:
    return [*_JSON, (b"content-length", b"%d" % len(body))]


def _header(scope: Scope, name: bytes) -> str | None:
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return None


def _min_trust(scope: Scope) -> Trust:
    given = _header(scope, _MIN_TRUST)
    if given is None:
        return Trust.NONE
    try:
        return Trust(given.strip().lower())
    except ValueError:
        name, known = _MIN_TRUST.decode(), ", ".join(Trust)
        raise InvalidRequest(f"{name}: {given!r} is not one of {known}", param=name) from None
