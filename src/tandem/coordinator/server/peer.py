"""Who is at the other end of a connection, as far as the API knows and may act on it.

The server puts a `Peer` into each scope. In another server, or in none, there is none, and then
nothing can be done to the connection.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable

from starlette.types import Scope

_EXTENSION = "tandem.peer"


class Standing(enum.Enum):
    """A stranger becomes known by a valid key, or a provider by a valid proof."""

    STRANGER = "stranger"
    KNOWN = "known"
    PROVIDER = "provider"


class Peer:
    """`network` is where it comes from; `changed` is told of a new standing."""

    def __init__(self, network: str = "", changed: Callable[[Peer], None] | None = None) -> None:
        self.network = network
        self.standing = Standing.STRANGER
        #: Ends what has no transport yet: a connection in its TLS handshake.
        self.on_abort: Callable[[], object] | None = None
        #: What the connection itself does when it turns out to be a provider's.
        self.on_welcome: Callable[[], None] | None = None
        self.aborted = False
        self._changed = changed
        self._transport: asyncio.Transport | None = None
        self._closing_since: float | None = None

    def attach(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        if self.aborted:
            transport.abort()

    @property
    def unsent_bytes(self) -> int:
        """What was written and waits in this process, as the peer reads slowly or not at all."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def abort(self) -> None:
        """Ends the connection at once: what the peer has not read is thrown away."""
        self.aborted = True
        if self._transport is not None:
            self._transport.abort()
        elif self.on_abort is not None:
            self.on_abort()

    def vouch(self) -> None:
        """The peer has shown a valid key, or needs none: it is no stranger any more."""
        if self.standing is Standing.STRANGER:
            self._become(Standing.KNOWN)

    def welcome(self) -> None:
        """The peer is a provider: it has a place of its own, and may send large messages."""
        self._become(Standing.PROVIDER)
        if self.on_welcome is not None:
            self.on_welcome()

    def closes_for_s(self, now: float) -> float:
        """How long it has been closing: what it was sent last waits for it to read."""
        if self._transport is None or not self._transport.is_closing():
            return 0.0
        if self._closing_since is None:
            self._closing_since = now
        return now - self._closing_since

    def _become(self, standing: Standing) -> None:
        self.standing = standing
        if self._changed is not None:
            self._changed(self)


def put_peer(scope: Scope, peer: Peer) -> None:
    scope.setdefault("extensions", {})[_EXTENSION] = peer


def peer_of(scope: Scope) -> Peer:
    """Whoever sent the request that this scope is of."""
    found: Peer = scope.get("extensions", {}).get(_EXTENSION) or Peer()
    return found
