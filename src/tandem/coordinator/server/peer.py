"""Who is at the other end of a connection, as far as the API may act on it.

The server puts a `Peer` into each scope. In another server, or in none, there is none, and then
nothing can be done to the connection.
"""

from __future__ import annotations

import asyncio

from starlette.types import Scope

_EXTENSION = "tandem.peer"


class Peer:
    def __init__(self, transport: asyncio.Transport | None) -> None:
        self._transport = transport

    @property
    def unsent_bytes(self) -> int:
        """What was written and waits in this process, as the peer reads slowly or not at all."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Ends the connection at once: what the peer has not read is thrown away."""
        if self._transport is not None:
            self._transport.abort()


_NOBODY = Peer(None)


def put_peer(scope: Scope, peer: Peer) -> None:
    scope.setdefault("extensions", {})[_EXTENSION] = peer


def peer_of(scope: Scope) -> Peer:
    """Whoever sent the request that this scope is of."""
    found: Peer = scope.get("extensions", {}).get(_EXTENSION, _NOBODY)
    return found
