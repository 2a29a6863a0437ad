"""Frames between the machines of a cluster: the first byte says of which connection."""

from __future__ import annotations

from contextlib import suppress

from tandem.errors import ProtocolError
from tandem.link.frames import PREFIX_BYTES, HeaderDecoder, check_payload, decode_prefix
from tandem.protocol.cluster import PairingMessage, ToNode, ToRank

_DECODERS: tuple[HeaderDecoder[object], ...] = (
    HeaderDecoder(ToNode),  # type: ignore[arg-type]
    HeaderDecoder(ToRank),  # type: ignore[arg-type]
    HeaderDecoder(PairingMessage),  # type: ignore[arg-type]
)

PREFIX, CODEC = 1 + PREFIX_BYTES, "msgpack"
TOKENS = ("type", "session_id", "rank", "step", "shape", "dtype", "plan", "facts", "versions")


def run(data: bytes) -> None:
    if len(data) <= PREFIX_BYTES:
        return
    payload_bytes = 0
    with suppress(ProtocolError):  # the header is tried all the same
        _, payload_bytes = decode_prefix(data[1 : 1 + PREFIX_BYTES])
    try:
        message = _DECODERS[data[0] % len(_DECODERS)].decode(data[1 + PREFIX_BYTES :])
        check_payload(message, payload_bytes)
    except ProtocolError:
        return
