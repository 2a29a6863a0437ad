"""MessagePack in and out. A message that does not decode is a ProtocolError that says where."""

from __future__ import annotations

import msgspec

from tandem.errors import ProtocolError
from tandem.protocol.to_coordinator import ToCoordinator
from tandem.protocol.to_provider import ToProvider

#: A prompt of the API's largest body fits with room to spare; a larger frame is refused unread.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024

_encoder = msgspec.msgpack.Encoder()
_to_coordinator: msgspec.msgpack.Decoder[ToCoordinator] = msgspec.msgpack.Decoder(ToCoordinator)
_to_provider: msgspec.msgpack.Decoder[ToProvider] = msgspec.msgpack.Decoder(ToProvider)


def encode(message: ToCoordinator | ToProvider) -> bytes:
    return _encoder.encode(message)


def decode_to_coordinator(frame: bytes) -> ToCoordinator:
    """Raises ProtocolError when the frame is not a message that a coordinator may receive."""
    try:
        return _to_coordinator.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"not a message for a coordinator: {error}") from error


def decode_to_provider(frame: bytes) -> ToProvider:
    """Raises ProtocolError when the frame is not a message that a provider may receive."""
    try:
        return _to_provider.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError(f"not a message for a provider: {error}") from error
