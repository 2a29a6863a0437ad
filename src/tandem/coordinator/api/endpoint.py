"""A route that runs a model, whatever its dialect: read, authenticate, run, write.

Raw ASGI, because every token passes here.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Generic

import msgspec
import structlog
from starlette.types import Receive, Scope, Send

from tandem.coordinator.accounts.authentication import Authenticator
from tandem.coordinator.accounts.records import KeyRecord
from tandem.coordinator.api.body import ConsumerGone, IncomingBody, while_connected
from tandem.coordinator.api.decode import RequestDecoder
from tandem.coordinator.api.dialect import Format, InferenceRoute, R, WholeChoice
from tandem.coordinator.api.held import Held, HeldBytes
from tandem.coordinator.api.http import header, json_headers
from tandem.coordinator.api.pace import Pacer
from tandem.coordinator.api.writer import AnswerWriter
from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.requests import trace
from tandem.coordinator.requests.dispatch import Dispatcher
from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.coordinator.requests.memory import memory_of, memory_of_answer, memory_of_tokens
from tandem.coordinator.requests.run import RequestRun
from tandem.coordinator.requests.trace import Trace
from tandem.coordinator.server.peer import peer_of
from tandem.errors import InvalidRequest, Overloaded, RateLimited, TandemError
from tandem.protocol import Trust
from tandem.runtime import new_id

log = structlog.get_logger(__name__)

#: Decoding a larger one takes milliseconds: what else there is to do goes on meanwhile.
_LARGE_BODY = 256 * 1024
#: Of an answer in memory: so is writing it.
_LARGE_ANSWER = 1024 * 1024
_MIN_TRUST = b"x-tandem-min-trust"


class _Caller(msgspec.Struct, frozen=True):
    """Who asked when (Unix time), and the least trust that this request wants of a provider."""

    name: str
    key: KeyRecord | None
    min_trust: Trust
    wants_trace: bool
    received: float

    def trace_of(self, run: RequestRun) -> Trace | None:
        return run.trace(self.received) if self.wants_trace else None


@dataclass(frozen=True)
class _Answer:
    """How one answer is written, and what is held until it is."""

    format: Format
    writer: AnswerWriter
    held: Held


class InferenceEndpoint(Generic[R]):
    """One route of a dialect; `credentials` are the dialect's."""

    def __init__(
        self,
        route: InferenceRoute[R],
        credentials: Callable[[Scope], str | None],
        *,
        config: CoordinatorConfig,
        dispatcher: Dispatcher,
        authenticator: Authenticator,
        pacer: Pacer,
        held: HeldBytes,
    ) -> None:
        self._route = route
        self._credentials = credentials
        self._decoder = RequestDecoder(route.schema)
        self._config = config
        self._dispatcher = dispatcher
        self._authenticator = authenticator
        self._pacer = pacer
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises TandemError as long as nothing was sent; later errors are events of the stream."""
        try:
            await self._answer(scope, receive, send)
        except ConsumerGone as gone:
            log.info("consumer_gone", path=scope["path"], reason=str(gone))

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = time.time()
        body = IncomingBody(
            scope,
            receive,
            self._pacer,
            max_bytes=self._config.max_body_bytes,
            timeout_s=self._config.body_timeout_s,
        )
        try:
            # Before anything is kept of what a stranger sends.
            key = await self._authenticator.authenticate(self._credentials(scope))
            peer_of(scope).vouch()
            wants_trace = header(scope, trace.HEADER) is not None
            name = _name_of_caller(key, scope)
            caller = _Caller(name, key, _min_trust(scope), wants_trace, received)
            with self._held.hold(name) as held:
                writer = AnswerWriter(
                    send,
                    peer_of(scope),
                    keep_alive_s=self._config.keep_alive_s,
                    stalls_after_s=self._config.reader_timeout_s,
                )
                work = await self._work(body, held, caller, writer)
                await while_connected(receive, work, writer.watch())
        except TandemError:
            async with self._dispatcher.until_given_up():
                await body.discard()
            raise

    async def _work(
        self, incoming: IncomingBody, held: Held, caller: _Caller, writer: AnswerWriter
    ) -> Callable[[], Awaitable[None]]:
        """What is left to do. Of the body nothing remains but the request, which `held` holds."""
        async with self._dispatcher.until_given_up():
            body = await incoming.read(held)
            await self._pacer.wait_turn()
            if len(body) < _LARGE_BODY:
                asked, request = self._read(body)
            else:
                asked, request = await self._pacer.aside(caller.name, self._read, body)
        # As much as the body again is what is on its way to a provider.
        held.resize(memory_of(request) + len(body))
        answer = _Answer(self._route.format(asked, new_id(), int(time.time())), writer, held)
        work = self._stream if asked.stream else self._whole
        return partial(work, request, caller, answer)

    def _read(self, body: bytearray) -> tuple[R, InferenceRequest]:
        asked = self._decoder.decode(body)
        return asked, self._route.to_request(asked)

    async def _whole(self, request: InferenceRequest, caller: _Caller, answer: _Answer) -> None:
        choices = {index: WholeChoice() for index in range(request.task.choices)}
        size = 0
        async with self._dispatcher.dispatch(request, caller.key, caller.min_trust) as run:
            async for deltas in run:
                size += (more := memory_of_answer(deltas))
                self._keep_whole(answer.held, more, size)
                for delta in deltas:
                    choices[delta.index].add(delta)
        assert run.usage is not None
        if size < _LARGE_ANSWER:
            body = answer.format.whole(choices, run.usage)
        else:
            body = await self._pacer.aside(caller.name, answer.format.whole, choices, run.usage)
        headers = json_headers(body)
        if (times := caller.trace_of(run)) is not None:
            headers.append(trace.header(times))
        await answer.writer.whole(headers, body)

    def _keep_whole(self, held: Held, more: int, size: int) -> None:
        """Raises as Held does, or InvalidRequest for an answer that is too large by itself."""
        try:
            held.grow(more)
        except (RateLimited, Overloaded):
            if size < self._config.max_held_bytes_each // 2:
                raise
            raise InvalidRequest(
                "the answer is too large to be kept until it is whole: stream it, or ask for fewer"
                " choices, tokens or log probabilities",
                param="n",
            ) from None

    async def _stream(self, request: InferenceRequest, caller: _Caller, answer: _Answer) -> None:
        answer.writer.stream()
        try:
            async with self._dispatcher.dispatch(request, caller.key, caller.min_trust) as run:
                run.keep = answer.held.keep
                opening = answer.format.opening(request.task.choices)
                async for deltas in run:
                    if not deltas:  # a provider has taken the request: now it has a status
                        await answer.writer.open()
                        continue
                    answer.held.grow(memory_of_tokens(deltas))
                    if events := opening + b"".join(map(answer.format.event, deltas)):
                        await answer.writer.write(events)
                    opening = b""
            assert run.usage is not None
            last = opening + answer.format.end(run.usage)
            if (times := caller.trace_of(run)) is not None:
                last = trace.comment(times) + last
        except TandemError as error:
            if not answer.writer.started:
                raise
            log.warning("stream_failed", code=error.code)
            last = answer.format.error(error)
        await answer.writer.write(last, last=True)


def _name_of_caller(key: KeyRecord | None, scope: Scope) -> str:
    """Whose share of memory and turns it takes: a key's, or an address's where none is needed."""
    if key is not None:
        return str(key.id)
    client = scope.get("client")
    return client[0] if client else ""


def _min_trust(scope: Scope) -> Trust:
    given = header(scope, _MIN_TRUST)
    if given is None:
        return Trust.NONE
    try:
        return Trust(given.strip().lower())
    except ValueError:
        name, known = _MIN_TRUST.decode(), ", ".join(Trust)
        raise InvalidRequest(f"{name}: {given!r} is not one of {known}", param=name) from None
