"""The provider's end of the conversation with its coordinator, without I/O.

    NEW ──hello──▶ GREETED ──challenge/proof──▶ PROVED ──welcome──▶ JOINED
                      └───────────refused──────────┘

Whoever has a connection feeds `receive` with the messages that come and acts on the events that it
returns; what is to be sent goes to `send`, in order. Out of turn is a ProtocolError. What seals is
handed in, since this package knows no cryptography.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

import msgspec

from tandem.errors import ProtocolError, ServiceStopping
from tandem.protocol.attestation import NONCE_BYTES, Evidence, statement
from tandem.protocol.common import ErrorInfo, RequestId
from tandem.protocol.provider.codec import decode_work, encode_padded
from tandem.protocol.provider.sealed import AnswerPart, Failed, Work
from tandem.protocol.provider.to_coordinator import (
    Draining,
    Heartbeat,
    Hello,
    Proof,
    Reply,
    ToCoordinator,
    Unreadable,
)
from tandem.protocol.provider.to_provider import (
    Cancel,
    Challenge,
    Grant,
    NextKey,
    Refused,
    Request,
    ToProvider,
    Welcome,
)
from tandem.protocol.version import SUPPORTED_VERSIONS


class Cryptography(Protocol):
    """What a provider proves, opens and seals with."""

    def prove(self, statement: bytes) -> Evidence:
        """Signs what a challenge asks for."""

    def open_ahead(self, sealed_key: bytes) -> None:
        """Takes the hint of how the next request will begin."""

    def open(self, request: Request, connection: bytes) -> bytes:
        """The content of a request on the connection with this nonce. Raises ProtocolError."""

    def replies(self, key: bytes, request_id: RequestId) -> Callable[[bytes], bytes]:
        """Seals one answer after the other. Raises ProtocolError for what is no key."""


class Asked(msgspec.Struct, frozen=True):
    """A request that has come, opened. `seal` is for `ProviderSide.answer`."""

    request: Request
    work: Work
    seal: Callable[[bytes], bytes]


class Unopened(msgspec.Struct, frozen=True):
    """A request that did not open, which the coordinator was told."""

    request_id: RequestId
    reason: str


#: What the connection's owner has to act on.
ProviderEvent = Welcome | Refused | Asked | Unopened | Grant | Cancel


class Phase(Enum):
    NEW = "before the hello"
    GREETED = "after the hello"
    PROVED = "after the proof"
    JOINED = "after the welcome"


_IN_TURN: dict[Phase, tuple[type[ToProvider], ...]] = {
    Phase.NEW: (),
    Phase.GREETED: (Challenge, Refused),
    Phase.PROVED: (Welcome, Refused),
    Phase.JOINED: (Challenge, Request, NextKey, Grant, Cancel),
}


class ProviderSide:
    """One connection. `registration` is encoded; `draining` says that it is from the start."""

    def __init__(
        self,
        cryptography: Cryptography,
        registration: bytes,
        send: Callable[[ToCoordinator], None],
        *,
        draining: bool = False,
    ) -> None:
        self.phase = Phase.NEW
        self._cryptography = cryptography
        self._registration = registration
        self._send = send
        self._draining = draining
        #: The first challenge's: requests are bound to it.
        self._nonce = b""
        self._requests = 0

    def greet(self, join_token: str) -> None:
        assert self.phase is Phase.NEW, "a hello is said once"
        self.phase = Phase.GREETED
        self._send(Hello(list(SUPPORTED_VERSIONS), join_token, self._registration))

    def receive(self, message: ToProvider) -> ProviderEvent | None:
        """What a message means; None when it was dealt with. Raises ProtocolError."""
        if type(message) not in _IN_TURN[self.phase]:
            raise ProtocolError(f"unexpected {type(message).__name__} {self.phase.value}")
        if isinstance(message, Challenge):
            self._prove(message)
            return None
        if isinstance(message, NextKey):
            self._cryptography.open_ahead(message.sealed_key)
            return None
        if isinstance(message, Request):
            return self._open(message)
        if isinstance(message, Welcome):
            self._joined()
        return message

    def beat(self, heartbeat: Heartbeat) -> None:
        """Says how the provider is; while it drains, not that it is ready."""
        ready = heartbeat.ready and not self._draining
        self._send(msgspec.structs.replace(heartbeat, ready=ready))

    def answer(self, asked: Asked, part: AnswerPart) -> None:
        """Sends the next part of an answer."""
        self._send(Reply(asked.request.request_id, asked.seal(encode_padded(part))))

    def drain(self) -> None:
        """Says, now or once joined, that nothing new is taken; what comes yet is refused."""
        self._draining = True
        if self.phase is Phase.JOINED:
            self._send(Draining())

    def _prove(self, challenge: Challenge) -> None:
        if len(challenge.nonce) != NONCE_BYTES:
            raise ProtocolError(f"a challenge has {NONCE_BYTES} bytes")
        if self.phase is Phase.GREETED:
            self.phase, self._nonce = Phase.PROVED, challenge.nonce
        self._send(Proof(self._cryptography.prove(statement(challenge.nonce, self._registration))))

    def _joined(self) -> None:
        self.phase = Phase.JOINED
        if self._draining:
            self._send(Draining())

    def _open(self, request: Request) -> Asked | Unopened | None:
        try:
            work = decode_work(self._content(request))
            seal = self._cryptography.replies(work.reply_key, request.request_id)
        except ProtocolError as error:
            self._send(Unreadable(request.request_id))
            return Unopened(request.request_id, error.message)
        asked = Asked(request, work, seal)
        if self._draining:
            refusal = ErrorInfo.of(ServiceStopping("this provider is draining"))
            self.answer(asked, Failed(refusal))
            return None
        return asked

    def _content(self, request: Request) -> bytes:
        """Each request is taken once, in its place on this connection. Raises ProtocolError."""
        if request.number != self._requests:
            raise ProtocolError(f"request {request.number} came, {self._requests} was due")
        self._requests += 1
        return self._cryptography.open(request, self._nonce)
