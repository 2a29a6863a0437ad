"""MessagePack in and out. A message that does not decode is a ProtocolError that says where."""

from __future__ import annotations

from typing import Generic, TypeVar, get_args

import msgspec

from tandem.errors import ProtocolError
from tandem.protocol.padding import padded_size
from tandem.protocol.provider.sealed import AnswerPart, Work
from tandem.protocol.provider.to_coordinator import (
    Hello,
    Proof,
    Registration,
    Reply,
    ToCoordinator,
)
from tandem.protocol.provider.to_provider import ToProvider

#: A prompt of the API's largest body fits with room to spare; a larger frame is refused unread.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
#: What a provider may send: a chunk of many tokens with all their log probabilities. Far less than
#: it may get, since whatever is in it is decoded on the coordinator's event loop.
MAX_REPLY_BYTES = 1024 * 1024
#: Everything but replies, all that comes before the welcome included.
MAX_NOTICE_BYTES = 64 * 1024

#: MessagePack's map of no field, and of as many as its first byte can count.
_FEW_FIELDS, _MOST_FIELDS = 0x80, 0x8F
#: A field's name, and what begins bytes whose length follows in four.
_PADDING = b"\xa7padding\xc6"

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()


def encode(message: ToCoordinator | ToProvider | Registration | Work | AnswerPart) -> bytes:
    return _encoder.encode(message)


def encode_padded(message: Work | AnswerPart) -> bytes:
    """For sealing: a `padding` more, which nobody decodes, makes the size tell nothing.

    A receiver passes over fields that it does not know, so old ones read it as well.
    """
    encoded = encode(message)
    assert _FEW_FIELDS <= encoded[0] < _MOST_FIELDS, "a map of less than 15 fields"
    missing = padded_size(len(encoded) + len(_PADDING) + 4) - len(encoded) - len(_PADDING) - 4
    fields = bytes([encoded[0] + 1])
    return fields + encoded[1:] + _PADDING + missing.to_bytes(4, "big") + bytes(missing)


class _Kind(msgspec.Struct, frozen=True):
    """A sealed request, as far as its decoder depends on it."""

    type: str = "generate"


class _Decoder(Generic[T]):
    def __init__(
        self, decoder: msgspec.msgpack.Decoder[T], what: str, max_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        self._decoder = decoder
        self._what = what
        self._max_bytes = max_bytes

    def __call__(self, frame: bytes) -> T:
        """Raises ProtocolError when the frame is not such a message, or too large for one."""
        if len(frame) > self._max_bytes:
            raise ProtocolError(f"not {self._what}: it has more than {self._max_bytes} bytes")
        try:
            return self._decoder.decode(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"not {self._what}: {error}") from error


_decode_to_coordinator: _Decoder[ToCoordinator] = _Decoder(
    msgspec.msgpack.Decoder(ToCoordinator), "a message for a coordinator", MAX_REPLY_BYTES
)
decode_to_provider: _Decoder[ToProvider] = _Decoder(
    msgspec.msgpack.Decoder(ToProvider), "a message for a provider"
)
decode_hello = _Decoder(msgspec.msgpack.Decoder(Hello), "a hello", MAX_NOTICE_BYTES)
decode_proof = _Decoder(msgspec.msgpack.Decoder(Proof), "a proof", MAX_NOTICE_BYTES)
decode_registration = _Decoder(
    msgspec.msgpack.Decoder(Registration), "a registration", MAX_NOTICE_BYTES
)
decode_answer_part: _Decoder[AnswerPart] = _Decoder(
    msgspec.msgpack.Decoder(AnswerPart), "an answer", MAX_REPLY_BYTES
)
_decode_kind = _Decoder(msgspec.msgpack.Decoder(_Kind), "a request")
_WORK: dict[str, _Decoder[Work]] = {
    tag: _Decoder(msgspec.msgpack.Decoder(kind), f"a request to {tag}")
    for kind in get_args(Work)
    for tag in [kind.__struct_config__.tag or _Kind().type]
}


def decode_to_coordinator(frame: bytes) -> ToCoordinator:
    """What a provider sends. Raises ProtocolError, as for a large message that is no reply."""
    message = _decode_to_coordinator(frame)
    if len(frame) > MAX_NOTICE_BYTES and not isinstance(message, Reply):
        raise ProtocolError(f"a message that is no reply has at most {MAX_NOTICE_BYTES} bytes")
    return message


def decode_work(frame: bytes) -> Work:
    """What a provider is asked for. Raises ProtocolError for anything that it does not know."""
    kind = _decode_kind(frame).type
    if kind not in _WORK:
        raise ProtocolError(f"not a request of a known kind: {kind!r}")
    return _WORK[kind](frame)
