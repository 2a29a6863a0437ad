"""Mutual TLS 1.3 between paired nodes: contexts, and what is checked after the handshake.

A node's certificate is self-signed; the trust store holds exactly the certificates of the nodes
that it is paired with, so OpenSSL itself refuses everybody else. Their dates count for nothing: who
is trusted is settled by the certificate itself, and machines without a clock have links too. ALPN
carries the link protocol's version, and whether a connection is for control or for data.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence

from tandem.errors import ConfigurationError, PeerRefused
from tandem.protocol.cluster import CLUSTER_VERSION
from tandem.security import Identity, NodeId, PairedNode, node_id_of

_CONTROL, _DATA = "tandem", "tandem-data"
#: OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which `ssl` has no name for.
_ANY_TIME = 0x200000

HANDSHAKE_TIMEOUT_S = 10.0
_KEEPALIVE_IDLE_S, _KEEPALIVE_INTERVAL_S, _KEEPALIVE_COUNT = 5, 2, 3
_USER_TIMEOUT_MS = 15_000
_BUFFER_BYTES = 1 << 20


class NoCommonVersion(PeerRefused):
    """The handshake agreed on no version of the link protocol."""


class LinkCredentials:
    """One node's side of its links: its identity, and the nodes that it is paired with."""

    def __init__(
        self,
        identity: Identity,
        paired: Sequence[PairedNode],
        versions: Sequence[int] = (CLUSTER_VERSION,),
    ) -> None:
        """`versions` of the link protocol are those that this node speaks, best first.

        Raises ConfigurationError when no node is paired, or a certificate cannot be read.
        """
        self.identity = identity
        self._control = [f"{_CONTROL}/{version}" for version in versions]
        self._data = [f"{_DATA}/{version}" for version in versions]
        self.trust(paired)
        if not self._paired:
            raise ConfigurationError(
                "no machine is paired with this one: run `tandem pair` on both"
            )

    def trust(self, paired: Sequence[PairedNode]) -> None:
        """From now on these and nobody else: handshakes that begin later know no others."""
        own_id = self.identity.node_id
        self._paired = {node.node_id: node for node in paired if node.node_id != own_id}
        server, client = ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT
        self.server_context = self._context(server, [*self._control, *self._data])
        self.control_context = self._context(client, self._control)
        self.data_context = self._context(client, self._data)

    @property
    def versions(self) -> str:
        return ", ".join(self._control)

    def trusts(self, node_id: NodeId) -> bool:
        return node_id in self._paired

    def name_of(self, node_id: NodeId) -> str:
        """What it was called when it was paired."""
        node = self._paired.get(node_id)
        return node_id[:16] if node is None else node.name

    def check_peer(self, connection: ssl.SSLSocket) -> NodeId:
        """Who is at the other end. Raises PeerRefused."""
        certificate = connection.getpeercert(binary_form=True)
        if certificate is None:
            raise PeerRefused("the peer presented no certificate")
        node_id = node_id_of(certificate)
        if node_id not in self._paired:
            raise PeerRefused(f"node {node_id[:16]} is not paired with this one")
        if connection.selected_alpn_protocol() not in {*self._control, *self._data}:
            raise NoCommonVersion(f"node {node_id[:16]} speaks none of {self.versions}")
        return node_id

    def is_for_data(self, connection: ssl.SSLSocket) -> bool:
        """What a checked connection was opened for."""
        return connection.selected_alpn_protocol() in self._data

    def _context(self, protocol: int, alpn: list[str]) -> ssl.SSLContext:
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False  # nodes have identities, not names
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VerifyFlags(_ANY_TIME)
        context.set_alpn_protocols(alpn)
        if protocol == ssl.PROTOCOL_TLS_SERVER:
            context.num_tickets = 0  # every connection proves its identity anew
        context.load_cert_chain(self.identity.certificate_path, self.identity.key_path)
        certificates = "\n".join(node.certificate for node in self._paired.values())
        if certificates:
            context.load_verify_locations(cadata=certificates)
        return context


def reason_of(error: OSError) -> str:
    """What a failed handshake says, without the numbers of OpenSSL's source lines."""
    return error.reason if isinstance(error, ssl.SSLError) and error.reason else str(error)


def tune(connection: socket.socket) -> None:
    """Small messages at once; a peer that is gone is noticed by the kernel too."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
    for option, value in (
        ("TCP_KEEPIDLE", _KEEPALIVE_IDLE_S),
        ("TCP_KEEPINTVL", _KEEPALIVE_INTERVAL_S),
        ("TCP_KEEPCNT", _KEEPALIVE_COUNT),
        ("TCP_USER_TIMEOUT", _USER_TIMEOUT_MS),  # Linux only
    ):
        number = getattr(socket, option, None)
        if number is not None:
            connection.setsockopt(socket.IPPROTO_TCP, number, value)
