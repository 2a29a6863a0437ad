"""Requests on their way: from a provider's socket to the consumer that waits, within bounds.

A provider may have `window` chunks of a request under way. What has come and was not taken yet is
joined, one delta a choice, so a consumer that lags gets bigger pieces rather than more of them;
taking them grants the provider as many again. A provider that sends more than it may, or out of
order, breaks the protocol.
"""

from __future__ import annotations

import asyncio
from typing import Self

from tandem.errors import Overloaded, ProtocolError, ProviderLost, TandemError
from tandem.protocol import (
    Cancel,
    Chunk,
    Delta,
    Failed,
    Finished,
    Generate,
    Grant,
    RequestId,
    ToProvider,
    Usage,
    Welcome,
    join_deltas,
)


class RequestStream:
    """One request at one provider, as an async iterator of batches of deltas.

    Iteration ends after the last choice has finished, and `usage` is set then; it raises the
    request's error otherwise. Leaving the `async with` cancels at the provider what still runs.
    """

    def __init__(self, link: ProviderLink, request: Generate) -> None:
        self.usage: Usage | None = None
        self._link = link
        self._request_id = request.request_id
        self._window = request.window
        self._unfinished = set(range(len(request.prompts) * request.n))
        self._next_number = 0
        self._pending: dict[int, Delta] = {}
        self._untaken = 0
        self._ungranted = 0
        self._error: TandemError | None = None
        self._news = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether the provider has nothing more to say about this request."""
        return self.usage is not None or self._error is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
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

    def take(self, chunk: Chunk) -> None:
        """Called as chunks arrive. Raises ProtocolError."""
        if chunk.number != self._next_number:
            raise ProtocolError(f"chunk {chunk.number} came, {self._next_number} was due")
        self._next_number += 1
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
        self._news.set()

    def finish(self, usage: Usage) -> None:
        """Raises ProtocolError when a choice has not: an end too early is no success."""
        if self._unfinished:
            raise ProtocolError(f"the answer ended with {len(self._unfinished)} choices unfinished")
        self.usage = usage
        self._news.set()

    def fail(self, error: TandemError) -> None:
        if not self.ended:
            self._error = error
            self._news.set()


class ProviderLink:
    """What is under way at one connected provider, and the queue of messages to it."""

    def __init__(self, max_outgoing: int) -> None:
        self._outgoing: asyncio.Queue[ToProvider] = asyncio.Queue(max_outgoing)
        self._streams: dict[RequestId, RequestStream] = {}
        self._lost: ProviderLost | None = None

    def open(self, request: Generate) -> RequestStream:
        """Sends a request. Raises Overloaded when the provider does not read what it is sent."""
        if self._lost is not None:
            raise self._lost
        try:
            self._outgoing.put_nowait(request)
        except asyncio.QueueFull:
            raise Overloaded("the provider does not read its requests") from None
        stream = RequestStream(self, request)
        self._streams[request.request_id] = stream
        return stream

    def send(self, message: Welcome | Grant | Cancel) -> None:
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

    def deliver(self, message: Chunk | Finished | Failed) -> None:
        """Hands on what came. Raises ProtocolError when it breaks the rules of its request."""
        stream = self._streams.get(message.request_id)
        if stream is None:
            return  # it crossed our cancel on the way
        if isinstance(message, Chunk):
            stream.take(message)
            return
        if isinstance(message, Finished):
            stream.finish(message.usage)
        else:
            stream.fail(message.error.to_error())
        del self._streams[message.request_id]

    def forget(self, request_id: RequestId, *, cancel: bool) -> None:
        if self._streams.pop(request_id, None) is not None and cancel:
            self.send(Cancel(request_id))

    def lose(self, error: ProviderLost) -> None:
        """The connection is gone: everything under way ends with `error`."""
        self._lost = self._lost or error
        for stream in self._streams.values():
            stream.fail(error)
        self._streams.clear()
