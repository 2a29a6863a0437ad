"""One WebSocket, a provider's or a stranger's: small messages only until the welcome."""

from __future__ import annotations

from asyncio.transports import BaseTransport
from typing import TYPE_CHECKING, cast

from starlette.types import Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from tandem.coordinator.server.peer import Peer, put_peer
from tandem.coordinator.server.shared import Shared
from tandem.protocol import MAX_REPLY_BYTES

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

#: The most that somebody may send in one message, in however many fragments, before it is known.
MAX_STRANGERS_MESSAGE_BYTES = 64 * 1024
_MAX_FRAGMENTS = 1024
WRITE_BUFFER_BYTES = 256 * 1024
_MESSAGE_TOO_BIG = 1009


class WebSocketConnection(WebSocketsSansIOProtocol):
    def __init__(self, shared: Shared, peer: Peer) -> None:
        super().__init__(shared.config, shared.state, {})
        self._shared = shared
        self._peer = peer
        self.conn.max_message_size = MAX_STRANGERS_MESSAGE_BYTES
        peer.on_welcome = self._welcome

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._peer.on_welcome = None  # it would keep us alive until the next search for garbage
        self._shared.census.leave(self._peer)

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == 101:  # the application runs in the next turn of the loop
            put_peer(cast("Scope", self.scope), self._peer)

    async def send(self, message: ASGISendEvent) -> None:
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True  # by a refusal: uvicorn would log that there was none

    def handle_cont(self, event: Frame) -> None:
        """Empty fragments count for nothing in a message's size, but each would be kept."""
        if len(self.frames) >= _MAX_FRAGMENTS:
            self.conn.fail(_MESSAGE_TOO_BIG, "too many fragments")
            self.handle_parser_exception()
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        """Pongs wait for whoever does not read, so somebody who pings and never reads has to go."""
        if not self.writable.is_set():
            self._peer.abort()
            return
        super().handle_ping()

    def _welcome(self) -> None:
        self.conn.max_message_size = MAX_REPLY_BYTES
