"""The coordinator's end of one provider's connection: what waits to be sent, and who waits there.

Requests are sealed here to the provider's key; what comes back goes to whoever asked.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol

from tandem.errors import Overloaded, ProtocolError, ProviderLost, TandemError
from tandem.protocol import (
    Cancel,
    Challenge,
    Grant,
    ModelName,
    NextKey,
    Reply,
    Request,
    RequestId,
    ToProvider,
    Unreadable,
    Welcome,
)
from tandem.security import RecipientKey, request_context


class Receiver(Protocol):
    """Whoever waits for the answers to one request."""

    @property
    def ended(self) -> bool:
        """Whether the provider has nothing more to say about this request."""

    def take(self, sealed: bytes) -> None:
        """Called as answers arrive. Raises ProtocolError for one that breaks the rules."""

    def fail(self, error: TandemError) -> None:
        """Nothing more will come."""


class ProviderLink:
    """What is under way at one connected provider, and the queue of messages to it.

    `nonce` is the connection's: every request is sealed to the provider's key for this place.
    """

    def __init__(self, key: RecipientKey, nonce: bytes, max_outgoing: int) -> None:
        self._key = key
        self._nonce = nonce
        self._requests = 0
        self._outgoing: asyncio.Queue[ToProvider] = asyncio.Queue(max_outgoing)
        self._receivers: dict[RequestId, Receiver] = {}
        self._lost: TandemError | None = None

    def request(
        self,
        request_id: RequestId,
        content: bytes,
        receiver: Receiver,
        *,
        model: ModelName,
        deadline_s: float,
        window: int,
    ) -> None:
        """Seals and sends a request, whose encoded content holds the key of its answers.

        Raises ProviderLost, or Overloaded when the provider does not read what it is sent.
        """
        if self._lost is not None:
            raise self._lost
        if self._outgoing.full():
            raise Overloaded("the provider does not read its requests")
        context = request_context(self._nonce, self._requests, request_id)
        sealed = self._key.seal(content, context)
        message = Request(request_id, self._requests, model, deadline_s, window, sealed)
        self._requests += 1
        self._outgoing.put_nowait(message)
        self._receivers[request_id] = receiver

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
        """Raises why the link was given up, once it was."""
        message = await self._outgoing.get()
        if self._lost is not None:
            raise self._lost
        return message

    def deliver(self, message: Reply | Unreadable) -> None:
        """Hands on what came. Raises ProtocolError when it breaks the rules of its request."""
        receiver = self._receivers.get(message.request_id)
        if receiver is None:
            return  # it crossed our cancel on the way
        if isinstance(message, Unreadable):
            raise ProtocolError("the provider could not open a request that was sealed to it")
        receiver.take(message.sealed)
        if receiver.ended:
            del self._receivers[message.request_id]

    def forget(self, request_id: RequestId, *, cancel: bool) -> None:
        if self._receivers.pop(request_id, None) is not None and cancel:
            self.send(Cancel(request_id))

    def lose(self, error: TandemError) -> None:
        """The connection is gone: everything under way ends with `error`, and so does writing."""
        if self._lost is None:
            self._lost = error
            with suppress(asyncio.QueueFull):  # then nobody waits for a message
                self._outgoing.put_nowait(Cancel(RequestId("")))
        self.abandon(error)

    def abandon(self, error: TandemError) -> None:
        """Everything under way ends with `error`; the connection lives on."""
        receivers, self._receivers = self._receivers, {}
        for request_id, receiver in receivers.items():
            receiver.fail(error)
            if self._lost is None:
                self.send(Cancel(request_id))
