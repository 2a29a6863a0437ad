"""The control connection of two nodes: messages on the event loop, over mutual TLS."""

from __future__ import annotations

import asyncio

import structlog

from tandem.errors import LinkLost, PeerRefused
from tandem.link.frames import HeaderDecoder, encode_frame
from tandem.link.stream import TlsStream, connect, read_message
from tandem.link.tls import (
    HANDSHAKE_TIMEOUT_S,
    LinkCredentials,
    NoCommonVersion,
    reason_of,
    tune,
)
from tandem.protocol.cluster import PeerRefusal, ToNode
from tandem.runtime import Address, address_text, host_of
from tandem.security import NodeId

log = structlog.get_logger(__name__)

_decoder: HeaderDecoder[ToNode] = HeaderDecoder(ToNode)  # type: ignore[arg-type]
_WRITE_TIMEOUT_S = 10.0
#: How long a peer that is refused has to read why.
_FAREWELL_S = 2.0


class ControlLink:
    """Messages to and from one paired node. `dialled` says which side opened the connection.

    Whoever dialled reaches the peer's only port at (`host`, `port`).
    """

    def __init__(self, stream: TlsStream, peer: NodeId, *, dialled: bool) -> None:
        """Raises OSError when the connection is gone already."""
        self.peer = peer
        self.dialled = dialled
        remote = stream.connection.getpeername()
        self.host, self.port = host_of(remote), int(remote[1])
        self.own_host = host_of(stream.connection.getsockname())
        self._stream = stream

    async def send(self, message: ToNode) -> None:
        """Raises LinkLost."""
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await self._stream.write(encode_frame(message))
        except (OSError, TimeoutError) as error:
            raise LinkLost(f"cannot write to node {self.peer[:16]}: {error}") from error

    async def receive(self, timeout_s: float) -> ToNode:
        """Raises LinkLost when nothing comes in time, ProtocolError for what is no message."""
        try:
            async with asyncio.timeout(timeout_s):
                return await read_message(self._stream, _decoder)
        except TimeoutError as error:
            raise LinkLost(f"node {self.peer[:16]} was silent for {timeout_s:g} s") from error
        except EOFError as error:
            raise LinkLost(f"node {self.peer[:16]} closed the link") from error
        except OSError as error:
            raise LinkLost(f"node {self.peer[:16]} broke the link: {reason_of(error)}") from error

    async def refuse(self, reason: str) -> None:
        """Tells the peer why, as far as it still listens, and closes."""
        try:
            async with asyncio.timeout(_FAREWELL_S):
                await self.send(PeerRefusal(reason))
                await self._stream.finish()
        except (LinkLost, TimeoutError) as error:
            log.info("refusal_not_heard", peer=self.peer[:16], error=str(error))
        self.close()

    def close(self) -> None:
        self._stream.close()


async def dial_control(credentials: LinkCredentials, address: Address) -> ControlLink:
    """Raises LinkLost when nobody answers there, PeerRefused when it is no paired node."""
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            plain = await connect(address)
            stream = TlsStream(plain, credentials.control_context, server=False)
            try:
                tune(stream.connection)
                await stream.handshake()
                peer = await check_node(credentials, stream)
                return ControlLink(stream, peer, dialled=True)
            except BaseException:
                stream.close()
                raise
    except EOFError as error:
        raise LinkLost(f"{address_text(*address)} closed the connection") from error
    except OSError as error:
        why = reason_of(error) or f"no answer within {HANDSHAKE_TIMEOUT_S:g} s"
        raise LinkLost(f"cannot connect to {address_text(*address)}: {why}") from error


async def check_node(credentials: LinkCredentials, stream: TlsStream) -> NodeId:
    """Who is at the other end of a handshake, told why if it is refused. Raises PeerRefused."""
    try:
        return credentials.check_peer(stream.connection)
    except NoCommonVersion as error:
        theirs = await _exchange_versions(credentials, stream)
        raise PeerRefused(
            f"no common link version: this side speaks {credentials.versions}, the peer {theirs}"
        ) from error


async def _exchange_versions(credentials: LinkCredentials, stream: TlsStream) -> str:
    """Each side of a pair without a common version names its own; the peer's."""
    await stream.write(encode_frame(PeerRefusal(credentials.versions)))
    answer = await read_message(stream, _decoder)
    return answer.reason if isinstance(answer, PeerRefusal) else "something else"
