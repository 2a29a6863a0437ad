"""Requests on their way: from a provider's socket to whoever waits, sealed and within bounds.

A provider may have `window` chunks of a request under way. What has come and was not taken yet is
joined, one delta a choice, so a consumer that lags gets bigger pieces rather than more of them;
taking them grants the provider as many again. A provider that sends more than it may, or out of
order, breaks the protocol.
"""

from __future__ import annotations

import asyncio
import time
from typing import Self

import msgspec

from tandem.errors import Overloaded, ProtocolError, ProviderLost, TandemError
from tandem.protocol import (
    Cancel,
    Challenge,
    Chunk,
    Delta,
    Failed,
    Finished,
    Generate,
    Grant,
    ModelName,
    NextKey,
    Reply,
    Request,
    RequestId,
    Stages,
    ToProvider,
    Unreadable,
    Usage,
    Welcome,
    decode_answer,
    encode,
    join_deltas,
)
from tandem.security import RecipientKey, ReplyChannel, new_reply_key, request_context


class Outgoing(msgspec.Struct, frozen=True):
    """A request before it is sealed; `content.reply_key` is made in `ProviderLink.open`."""

    request_id: RequestId
    model: ModelName
    deadline_s: float
    window: int
    content: Generate


class RequestStream:
    """One request at one provider, as an async iterator of batches of deltas.

    Iteration ends after the last choice has finished, and `usage` is set then; it raises the
    request's error otherwise. `close` cancels at the provider what still runs.
    """

    def __init__(self, link: ProviderLink, request: Outgoing, replies: ReplyChannel) -> None:
        self.usage: Usage | None = None
        #: When it was sealed and when its end came, in Unix time; the provider's own times.
        self.sealed = time.time()
        self.answered = 0.0
        self.stages: Stages | None = None
        #: Known from the first chunk on; 0 before.
        self.prompt_tokens = 0
        self._link = link
        self._replies = replies
        self._request_id = request.request_id
        self._window = request.window
        self._unfinished = _unfinished(request.content)
        self._pending: dict[int, Delta] = {}
        self._untaken = 0
        self._ungranted = 0
        self._error: TandemError | None = None
        self._news = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether the provider has nothing more to say about this request."""
        return self.usage is not None or self._error is not None

    def close(self) -> None:
        self._link.forget(self._request_id, cancel=not self.ended)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Delta]:
        while not self._pending:
            if self._error is not None:
                raise self._error
            if self.usage is not None:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        batch = list(self._pending.values())
        self._pending.clear()
        self._ungranted += self._untaken
        self._untaken = 0
        # Half a window at a time: fewer messages, and the provider never runs dry.
        if not self.ended and self._ungranted >= self._window // 2:
            self._link.send(Grant(self._request_id, self._ungranted))
            self._ungranted = 0
        return batch

    def take(self, sealed: bytes) -> None:
        """Called as answers arrive. Raises ProtocolError for one that breaks the rules."""
        answer = decode_answer(self._replies.open(sealed))
        if isinstance(answer, Chunk):
            self._add(answer)
        elif isinstance(answer, Finished):
            self._finish(answer)
        else:
            assert isinstance(answer, Failed)
            self.fail(answer.error.to_error())
        self._news.set()

    def fail(self, error: TandemError) -> None:
        if not self.ended:
            self._error = error
            self._news.set()

    def _add(self, chunk: Chunk) -> None:
        self.prompt_tokens = self.prompt_tokens or chunk.prompt_tokens
        self._untaken += 1
        if self._untaken + self._ungranted > self._window:
            raise ProtocolError(f"more than {self._window} chunks came ungranted")
        for delta in chunk.deltas:
            if delta.index not in self._unfinished:
                raise ProtocolError(f"choice {delta.index} is not one that still runs")
            if delta.finish is not None:
                self._unfinished.remove(delta.index)
            old = self._pending.get(delta.index)
            self._pending[delta.index] = delta if old is None else join_deltas(old, delta)

    def _finish(self, answer: Finished) -> None:
        """Raises ProtocolError when a choice has not: an end too early is no success."""
        if self._unfinished:
            raise ProtocolError(f"the answer ended with {len(self._unfinished)} choices unfinished")
        self.usage = answer.usage
        self.stages = answer.stages
        self.answered = time.time()


class ProviderLink:
    """What is under way at one connected provider, and the queue of messages to it.

    `nonce` is the connection's: every request is sealed to the provider's key for this place.
    """

    def __init__(self, key: RecipientKey, nonce: bytes, max_outgoing: int) -> None:
        self._key = key
        self._nonce = nonce
        self._requests = 0
        self._outgoing: asyncio.Queue[ToProvider] = asyncio.Queue(max_outgoing)
        self._streams: dict[RequestId, RequestStream] = {}
        self._lost: ProviderLost | None = None

    def open(self, request: Outgoing) -> RequestStream:
        """Seals and sends a request.

        Raises ProviderLost, or Overloaded when the provider does not read what it is sent.
        """
        if self._lost is not None:
            raise self._lost
        if self._outgoing.full():
            raise Overloaded("the provider does not read its requests")
        key = new_reply_key()
        content = encode(msgspec.structs.replace(request.content, reply_key=key))
        context = request_context(self._nonce, self._requests, request.request_id)
        message = Request(
            request.request_id,
            self._requests,
            request.model,
            request.deadline_s,
            request.window,
            self._key.seal(content, context),
        )
        self._requests += 1
        self._outgoing.put_nowait(message)
        stream = RequestStream(self, request, ReplyChannel(key, request.request_id))
        self._streams[request.request_id] = stream
        return stream

    def announce(self) -> None:
        """Makes the key of the next request, and has the provider open it, while neither waits."""
        if self._outgoing.empty() and (sealed_key := self._key.make_ahead()) is not None:
            self.send(NextKey(sealed_key))

    def send(self, message: Challenge | Welcome | NextKey | Grant | Cancel) -> None:
        """Queues a small message; a provider that reads nothing is lost."""
        try:
            self._outgoing.put_nowait(message)
        except asyncio.QueueFull:
            self.lose(ProviderLost("the provider stopped reading"))

    async def next_outgoing(self) -> ToProvider:
        """Raises ProviderLost once the link was given up."""
        message = await self._outgoing.get()
        if self._lost is not None:
            raise self._lost
        return message

    def deliver(self, message: Reply | Unreadable) -> None:
        """Hands on what came. Raises ProtocolError when it breaks the rules of its request."""
        stream = self._streams.get(message.request_id)
        if stream is None:
            return  # it crossed our cancel on the way
        if isinstance(message, Unreadable):
            raise ProtocolError("the provider could not open a request that was sealed to it")
        stream.take(message.sealed)
        if stream.ended:
            del self._streams[message.request_id]

    def forget(self, request_id: RequestId, *, cancel: bool) -> None:
        if self._streams.pop(request_id, None) is not None and cancel:
            self.send(Cancel(request_id))

    def lose(self, error: ProviderLost) -> None:
        """The connection is gone: everything under way ends with `error`."""
        self._lost = self._lost or error
        self.abandon(error)

    def abandon(self, error: ProviderLost) -> None:
        """Everything under way ends with `error`; the connection lives on."""
        streams, self._streams = self._streams, {}
        for request_id, stream in streams.items():
            stream.fail(error)
            if self._lost is None:
                self.send(Cancel(request_id))


def _unfinished(content: Generate) -> set[int]:
    choices = range(len(content.prompts) * content.n)
    if not content.produced:
        return set(choices)
    return {index for index in choices if content.produced[index] is not None}
