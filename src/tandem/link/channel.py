"""A data channel: blocking TLS on the executor's own thread, a deadline on every read and write.

Blocking sockets because a step is a strict alternation of sending and waiting: an event loop
between them would cost more than the encryption.
"""

from __future__ import annotations

import socket
import ssl
from typing import Protocol

from tandem.errors import LinkLost
from tandem.link.frames import (
    PREFIX_BYTES,
    HeaderDecoder,
    check_payload,
    decode_prefix,
    encode_frame,
)
from tandem.protocol.cluster import ToRank
from tandem.security import NodeId

_decoder: HeaderDecoder[ToRank] = HeaderDecoder(ToRank)  # type: ignore[arg-type]
#: Two peers that send to each other at once do it in pieces that the kernel's buffers hold.
_PIECE_BYTES = 64 * 1024

Buffer = bytes | bytearray | memoryview


class Channel(Protocol):
    """Frames to and from one rank, used by one thread; `abort` may come from any."""

    def send(self, header: ToRank, payload: Buffer = b"") -> None:
        """Raises LinkLost."""
        ...

    def receive(self, *, patient: bool = False) -> tuple[ToRank, bytearray]:
        """The next frame. `patient`: its first byte may take for ever, until `abort`.

        Raises LinkLost, or ProtocolError for what is no frame.
        """
        ...

    def swap(self, header: ToRank, payload: Buffer) -> tuple[ToRank, bytearray]:
        """Sends a frame and receives the peer's, which sends at the same time; no deadlock.

        Raises LinkLost or ProtocolError.
        """
        ...

    def abort(self) -> None:
        """Ends the connection at once; whoever is reading or writing on it gets LinkLost."""
        ...

    def close(self) -> None:
        """Releases the socket. Only when no other thread uses the channel any more."""
        ...


class TlsChannel:
    """`Channel` on one TLS connection."""

    def __init__(self, connection: ssl.SSLSocket, peer: NodeId, timeout_s: float) -> None:
        """`timeout_s` bounds each read and write that makes no progress."""
        self.peer = peer
        self._connection = connection
        self._timeout_s = timeout_s
        connection.settimeout(timeout_s)

    def send(self, header: ToRank, payload: Buffer = b"") -> None:
        frame = encode_frame(header, len(payload))
        try:
            if len(payload) <= _PIECE_BYTES:
                self._connection.sendall(frame + payload if payload else frame)
            else:
                self._connection.sendall(frame)
                self._connection.sendall(payload)
        except OSError as error:
            raise self._lost(error) from error

    def receive(self, *, patient: bool = False) -> tuple[ToRank, bytearray]:
        if patient:
            self._connection.settimeout(None)
        try:
            prefix = self._read(PREFIX_BYTES)
        finally:
            if patient:
                self._connection.settimeout(self._timeout_s)
        header, payload_bytes = self._header(prefix)
        return header, self._read(payload_bytes)

    def swap(self, header: ToRank, payload: Buffer) -> tuple[ToRank, bytearray]:
        if len(payload) <= _PIECE_BYTES:
            self.send(header, payload)
            return self.receive()
        try:
            self._connection.sendall(encode_frame(header, len(payload)))
            theirs, payload_bytes = self._header(self._read(PREFIX_BYTES))
            received = bytearray(payload_bytes)
            own, view = memoryview(payload), memoryview(received)
            for start in range(0, max(payload_bytes, len(payload)), _PIECE_BYTES):
                self._connection.sendall(own[start : start + _PIECE_BYTES])
                self._fill(view[start : start + _PIECE_BYTES])
        except OSError as error:
            raise self._lost(error) from error
        return theirs, received

    def abort(self) -> None:
        try:
            # The plain socket's: SSLSocket's own would take its TLS object away from the reader.
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)
        except OSError:
            return  # it was gone already

    def close(self) -> None:
        self.abort()
        self._connection.close()

    def _header(self, prefix: bytearray) -> tuple[ToRank, int]:
        """The message, and how many bytes follow it."""
        header_bytes, payload_bytes = decode_prefix(prefix)
        header = _decoder.decode(self._read(header_bytes))
        check_payload(header, payload_bytes)
        return header, payload_bytes

    def _read(self, count: int) -> bytearray:
        received = bytearray(count)
        self._fill(memoryview(received))
        return received

    def _fill(self, view: memoryview) -> None:
        try:
            while view:
                count = self._connection.recv_into(view)
                if count == 0:
                    raise LinkLost(f"rank at node {self.peer[:16]} closed the link")
                view = view[count:]
        except OSError as error:
            raise self._lost(error) from error

    def _lost(self, error: OSError) -> LinkLost:
        if isinstance(error, TimeoutError):
            return LinkLost(f"node {self.peer[:16]} was silent for {self._timeout_s:g} s")
        return LinkLost(f"the link to node {self.peer[:16]} broke: {error}")
