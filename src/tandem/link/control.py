"""The control connection of two nodes: asyncio streams over the same mutual TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import structlog

from tandem.errors import LinkLost, PeerRefused, TandemError
from tandem.link.frames import PREFIX_BYTES, HeaderDecoder, decode_prefix, encode_frame
from tandem.link.tls import HANDSHAKE_TIMEOUT_S, LinkCredentials, NoCommonVersion
from tandem.protocol.cluster import PeerRefusal, ToNode
from tandem.security import NodeId

log = structlog.get_logger(__name__)

_decoder: HeaderDecoder[ToNode] = HeaderDecoder(ToNode)  # type: ignore[arg-type]
_WRITE_TIMEOUT_S = 10.0


class ControlLink:
    """Messages to and from one paired node. `dialled` says which side opened the connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: NodeId,
        *,
        dialled: bool,
    ) -> None:
        self.peer = peer
        self.dialled = dialled
        self.host: str = writer.get_extra_info("peername")[0]
        self.own_host: str = writer.get_extra_info("sockname")[0]
        self._reader = reader
        self._writer = writer

    async def send(self, message: ToNode) -> None:
        """Raises LinkLost."""
        try:
            self._writer.write(encode_frame(message))
            async with asyncio.timeout(_WRITE_TIMEOUT_S):
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise LinkLost(f"cannot write to node {self.peer[:16]}: {error}") from error

    async def receive(self, timeout_s: float) -> ToNode:
        """Raises LinkLost when nothing comes in time, ProtocolError for what is no message."""
        try:
            async with asyncio.timeout(timeout_s):
                header_bytes, payload_bytes = decode_prefix(
                    await self._reader.readexactly(PREFIX_BYTES)
                )
                header = await self._reader.readexactly(header_bytes)
                await self._reader.readexactly(payload_bytes)
        except TimeoutError as error:
            raise LinkLost(f"node {self.peer[:16]} was silent for {timeout_s:g} s") from error
        except (OSError, EOFError) as error:
            raise LinkLost(f"node {self.peer[:16]} closed the link") from error
        return _decoder.decode(header)

    async def refuse(self, reason: str) -> None:
        """Tells the peer why, as far as it still listens, and closes."""
        try:
            await self.send(PeerRefusal(reason))
        except LinkLost as error:
            log.info("refusal_not_heard", peer=self.peer[:16], error=error.message)
        self.close()

    def close(self) -> None:
        self._writer.close()


async def dial_control(credentials: LinkCredentials, host: str, port: int) -> ControlLink:
    """Raises LinkLost when nobody answers there, PeerRefused when it is no paired node."""
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=credentials.client_context, server_hostname=""
            )
    except (OSError, TimeoutError) as error:
        raise LinkLost(f"cannot connect to {host}:{port}: {error}") from error
    return await _checked(credentials, reader, writer, dialled=True)


async def serve_control(
    credentials: LinkCredentials,
    host: str,
    port: int,
    on_link: Callable[[ControlLink], Awaitable[None]],
) -> asyncio.Server:
    """Listens; `on_link` runs for each paired node that connects. Others never reach it."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            link = await _checked(credentials, reader, writer, dialled=False)
        except TandemError as error:
            log.warning("control_connection_refused", reason=error.message)
            return
        await on_link(link)

    return await asyncio.start_server(
        accept,
        host,
        port,
        ssl=credentials.server_context,
        ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
    )


async def _checked(
    credentials: LinkCredentials,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    *,
    dialled: bool,
) -> ControlLink:
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    try:
        peer = credentials.check_peer(tls)
    except PeerRefused as error:
        try:
            raise PeerRefused(await _mutual_refusal(credentials, reader, writer, error)) from error
        finally:
            writer.close()
    return ControlLink(reader, writer, peer, dialled=dialled)


async def _mutual_refusal(
    credentials: LinkCredentials,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    error: PeerRefused,
) -> str:
    """Tells the peer why it is refused; without a common version each side names its own."""
    if not isinstance(error, NoCommonVersion):
        writer.write(encode_frame(PeerRefusal(error.message)))
        return error.message
    stranger = ControlLink(reader, writer, NodeId("of another version"), dialled=False)
    await stranger.send(PeerRefusal(credentials.versions))
    answer = await stranger.receive(HANDSHAKE_TIMEOUT_S)
    theirs = answer.reason if isinstance(answer, PeerRefusal) else "something else"
    return f"no common link version: this side speaks {credentials.versions}, the peer {theirs}"
