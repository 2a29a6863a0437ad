"""One HTTP connection: uvicorn's protocol, with what a stranger may cost bounded."""

from __future__ import annotations

import asyncio
from typing import cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tandem.coordinator.server.peer import Peer, put_peer

#: What may wait in a connection's buffer before its writer waits: a few hundred pieces of a stream.
WRITE_BUFFER_BYTES = 64 * 1024


class HttpConnection(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._peer = Peer(transport)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        put_peer(cast("Scope", self.scope), self._peer)
