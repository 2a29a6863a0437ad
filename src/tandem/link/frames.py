"""The frame: two lengths, a MessagePack header, raw bytes. Pure, and bounded before it is read.

header length   uint32, big endian
payload length  uint32, big endian
header          one message of the union that the connection carries
payload         a tensor's bytes, a plan or its result; nothing after other messages
"""

from __future__ import annotations

import struct
from typing import Generic, TypeVar

import msgspec

from tandem.errors import ProtocolError
from tandem.protocol.cluster import PlanHeader, ResultHeader, TensorHeader

MAX_HEADER_BYTES = 1 << 16
MAX_PAYLOAD_BYTES = 1 << 30
#: What may follow a message. Those that are not here carry nothing.
_PAYLOADS: dict[type, int] = {
    TensorHeader: MAX_PAYLOAD_BYTES,
    PlanHeader: 1 << 26,
    ResultHeader: 1 << 26,
}

_PREFIX = struct.Struct("!II")
PREFIX_BYTES = _PREFIX.size

M = TypeVar("M")


def encode_frame(message: msgspec.Struct, payload_bytes: int = 0) -> bytes:
    """Prefix and header; the payload follows as it is."""
    header = msgspec.msgpack.encode(message)
    assert len(header) <= MAX_HEADER_BYTES, "our own headers are small"
    assert payload_bytes <= MAX_PAYLOAD_BYTES, "our own tensors fit a frame"
    return _PREFIX.pack(len(header), payload_bytes) + header


def decode_prefix(prefix: bytes | bytearray | memoryview) -> tuple[int, int]:
    """(header length, payload length). Raises ProtocolError when either is over its bound."""
    header, payload = _PREFIX.unpack(prefix)
    if not 0 < header <= MAX_HEADER_BYTES or payload > MAX_PAYLOAD_BYTES:
        raise ProtocolError(f"a frame announces {header} + {payload} bytes, over the bounds")
    return header, payload


def check_payload(message: object, payload_bytes: int) -> None:
    """Before any of it is read. Raises ProtocolError when it is over the message's own bound."""
    if payload_bytes > _PAYLOADS.get(type(message), 0):
        raise ProtocolError(f"{type(message).__name__} announces {payload_bytes} bytes after it")


class HeaderDecoder(Generic[M]):
    """Decodes the headers of one kind of connection."""

    def __init__(self, kind: type[M]) -> None:
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(kind)

    def decode(self, header: bytes | bytearray | memoryview) -> M:
        """Raises ProtocolError for anything that is not one of the messages."""
        try:
            return self._decoder.decode(header)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"not a message for this connection: {error}") from error
