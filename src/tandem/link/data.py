"""Data connections: a listening port for them, and dialling; both end in a `Channel`."""

from __future__ import annotations

import socket
import ssl
import time
from contextlib import suppress

import structlog

from tandem.errors import LinkLost, PeerRefused, ProtocolError, TandemError
from tandem.link.channel import Channel, TlsChannel
from tandem.link.tls import HANDSHAKE_TIMEOUT_S, LinkCredentials, tune
from tandem.protocol.cluster import DataHello
from tandem.security import NodeId

log = structlog.get_logger(__name__)

_BACKLOG = 64


class DataListener:
    """Accepts data connections for one session at a time; others wait, or are turned away."""

    def __init__(self, credentials: LinkCredentials, host: str, port: int = 0) -> None:
        """Raises OSError when the address cannot be listened on."""
        self._credentials = credentials
        self._listener = socket.create_server((host, port), backlog=_BACKLOG)
        self.port: int = self._listener.getsockname()[1]

    def accept(
        self, session_id: str, expected: dict[int, NodeId], *, deadline: float, timeout_s: float
    ) -> dict[int, Channel]:
        """A channel from each rank of `expected`; blocks, until `deadline` (monotonic).

        Whoever else comes is closed and logged. Raises LinkLost when somebody does not come.
        """
        channels: dict[int, Channel] = {}
        try:
            while set(channels) != set(expected):
                channels |= self._accept_one(session_id, expected, deadline, timeout_s)
        except BaseException:
            for channel in channels.values():
                channel.close()
            raise
        return channels

    def close(self) -> None:
        """Frees the port; an `accept` that is waiting raises LinkLost."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept_one(
        self, session_id: str, expected: dict[int, NodeId], deadline: float, timeout_s: float
    ) -> dict[int, Channel]:
        """The channel by its rank; nothing when it was somebody else's."""
        try:
            self._listener.settimeout(max(0.001, deadline - time.monotonic()))
            plain, address = self._listener.accept()
        except TimeoutError as error:
            raise LinkLost("a rank did not open its data connection in time") from error
        except OSError as error:
            raise LinkLost(f"the data port was closed: {error}") from error
        try:
            channel = _shake(plain, self._credentials, timeout_s, server=True)
        except TandemError as error:
            log.warning("data_connection_refused", address=address[0], reason=error.message)
            return {}
        try:
            return {self._admit(channel, session_id, expected): channel}
        except TandemError as error:
            log.warning("data_connection_refused", address=address[0], reason=error.message)
            channel.close()
            return {}

    def _admit(self, channel: TlsChannel, session_id: str, expected: dict[int, NodeId]) -> int:
        hello, _ = channel.receive()
        if not isinstance(hello, DataHello) or hello.session_id != session_id:
            raise ProtocolError("a data connection of another session")
        if expected.get(hello.rank) != channel.peer:
            raise PeerRefused(f"node {channel.peer[:16]} is not rank {hello.rank} of this session")
        return hello.rank


def dial_data(
    credentials: LinkCredentials,
    address: tuple[str, int],
    peer: NodeId,
    hello: DataHello,
    *,
    timeout_s: float,
) -> Channel:
    """Opens a channel to `peer`. Blocks; raises LinkLost or PeerRefused."""
    try:
        plain = socket.create_connection(address, timeout=HANDSHAKE_TIMEOUT_S)
    except OSError as error:
        raise LinkLost(f"cannot connect to {address[0]}:{address[1]}: {error}") from error
    channel = _shake(plain, credentials, timeout_s, server=False)
    try:
        if channel.peer != peer:
            raise PeerRefused(f"node {channel.peer[:16]} answered in place of {peer[:16]}")
        channel.send(hello)
    except TandemError:
        channel.close()
        raise
    return channel


def _shake(
    plain: socket.socket, credentials: LinkCredentials, timeout_s: float, *, server: bool
) -> TlsChannel:
    context = credentials.server_context if server else credentials.client_context
    try:
        tune(plain)
        plain.settimeout(HANDSHAKE_TIMEOUT_S)
        connection = context.wrap_socket(plain, server_side=server)
    except OSError as error:
        plain.close()
        raise LinkLost(f"the TLS handshake failed: {_reason(error)}") from error
    try:
        return TlsChannel(connection, credentials.check_peer(connection), timeout_s)
    except PeerRefused:
        connection.close()
        raise


def _reason(error: OSError) -> str:
    return error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)
