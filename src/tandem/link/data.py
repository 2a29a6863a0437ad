"""Data connections: dialling one, and those that have come and wait for their session."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from tandem.errors import LinkLost, PeerRefused, TandemError
from tandem.link.channel import Channel, TlsChannel
from tandem.link.tls import HANDSHAKE_TIMEOUT_S, LinkCredentials, reason_of, tune
from tandem.protocol.cluster import DataHello
from tandem.runtime import Address, address_text
from tandem.security import NodeId


class Arrivals:
    """Data connections of paired nodes, until a session claims them: of each node the newest.

    A rank may dial before the other has read its invitation, so who comes early is kept.
    """

    def __init__(self, refuse: Callable[[NodeId, str], None]) -> None:
        """`refuse` is told whose connection was closed, and why."""
        self._refuse = refuse
        self._waiting: dict[NodeId, tuple[DataHello, ssl.SSLSocket]] = {}
        self._news = asyncio.Event()

    def put(self, peer: NodeId, hello: DataHello, connection: ssl.SSLSocket) -> None:
        self._drop(peer, "a newer data connection took its place")
        self._waiting[peer] = (hello, connection)
        self._news.set()

    async def claim(
        self, session_id: str, expected: dict[int, NodeId], *, deadline_s: float, timeout_s: float
    ) -> dict[int, Channel]:
        """A channel from each rank of `expected`, which then time out after `timeout_s`.

        Whoever comes for something else meanwhile is turned away. Raises LinkLost when somebody
        does not come within `deadline_s`.
        """
        channels: dict[int, Channel] = {}
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    self._news.clear()
                    channels |= self._take(session_id, expected, timeout_s)
                    if set(channels) == set(expected):
                        return channels
                    await self._news.wait()
        except BaseException as error:
            for channel in channels.values():
                channel.close()
            if isinstance(error, TimeoutError):
                raise LinkLost("a rank did not open its data connection in time") from error
            raise

    def close(self) -> None:
        for peer in list(self._waiting):
            self._drop(peer, "the node stops")

    def _take(
        self, session_id: str, expected: dict[int, NodeId], timeout_s: float
    ) -> dict[int, Channel]:
        """Those that have come for this session; all others are turned away."""
        taken: dict[int, Channel] = {}
        for peer, (hello, connection) in list(self._waiting.items()):
            if hello.session_id != session_id:
                self._drop(peer, "a data connection of another session")
            elif expected.get(hello.rank) != peer:
                self._drop(peer, f"node {peer[:16]} is not rank {hello.rank} of this session")
            else:
                del self._waiting[peer]
                taken[hello.rank] = TlsChannel(connection, peer, timeout_s)
        return taken

    def _drop(self, peer: NodeId, reason: str) -> None:
        found = self._waiting.pop(peer, None)
        if found is not None:
            self._refuse(peer, reason)
            found[1].close()


def dial_data(
    credentials: LinkCredentials,
    address: Address,
    peer: NodeId,
    hello: DataHello,
    *,
    timeout_s: float,
) -> Channel:
    """Opens a channel to `peer`. Blocks; raises LinkLost or PeerRefused."""
    try:
        plain = socket.create_connection(address, timeout=HANDSHAKE_TIMEOUT_S)
    except OSError as error:
        raise LinkLost(f"cannot connect to {address_text(*address)}: {error}") from error
    channel = _shake(plain, credentials, timeout_s)
    try:
        if channel.peer != peer:
            raise PeerRefused(f"node {channel.peer[:16]} answered in place of {peer[:16]}")
        channel.send(hello)
    except TandemError:
        channel.close()
        raise
    return channel


def _shake(plain: socket.socket, credentials: LinkCredentials, timeout_s: float) -> TlsChannel:
    try:
        tune(plain)
        connection = credentials.data_context.wrap_socket(plain)
    except OSError as error:
        plain.close()
        raise LinkLost(f"the TLS handshake failed: {reason_of(error)}") from error
    try:
        return TlsChannel(connection, credentials.check_peer(connection), timeout_s)
    except PeerRefused:
        connection.close()
        raise
