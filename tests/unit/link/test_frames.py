from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.members import hello

from tandem.errors import ProtocolError
from tandem.link.frames import (
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    PREFIX_BYTES,
    HeaderDecoder,
    check_payload,
    decode_prefix,
    encode_frame,
)
from tandem.protocol.cluster import (
    MAX_RANKS,
    DataHello,
    FailureHeader,
    Invitation,
    Known,
    Parallelism,
    Part,
    Ping,
    PlanHeader,
    Proposal,
    ResultHeader,
    TensorHeader,
    ToNode,
    ToRank,
)

decoder: HeaderDecoder[ToRank] = HeaderDecoder(ToRank)  # type: ignore[arg-type]


@given(st.integers(0, 2**31), st.integers(0, MAX_PAYLOAD_BYTES))
def test_a_frame_comes_back_as_it_went(step: int, payload: int) -> None:
    frame = encode_frame(PlanHeader(step), payload)
    header, announced = decode_prefix(frame[:PREFIX_BYTES])
    assert announced == payload
    assert len(frame) == PREFIX_BYTES + header
    assert decoder.decode(frame[PREFIX_BYTES:]) == PlanHeader(step)


@pytest.mark.parametrize(
    ("header", "payload"),
    [(0, 0), (MAX_HEADER_BYTES + 1, 0), (1, MAX_PAYLOAD_BYTES + 1), (2**32 - 1, 2**32 - 1)],
)
def test_lengths_over_the_bounds_are_refused_unread(header: int, payload: int) -> None:
    prefix = header.to_bytes(4, "big") + payload.to_bytes(4, "big")
    with pytest.raises(ProtocolError, match="over the bounds"):
        decode_prefix(prefix)


@given(st.binary(max_size=200))
def test_any_other_header_is_a_protocol_error(data: bytes) -> None:
    try:
        decoder.decode(data)
    except ProtocolError:
        return


def test_a_field_that_is_not_known_is_refused() -> None:
    message = msgspec.msgpack.encode({"type": "PlanHeader", "step": 1, "more": 2})
    with pytest.raises(ProtocolError, match="more"):
        decoder.decode(message)


def test_golden_bytes_of_a_tensor_header() -> None:
    frame = encode_frame(TensorHeader(7, 3, "bfloat16", [2, 16]), 64)
    assert frame == (
        b"\x00\x00\x00\x39\x00\x00\x00\x40"
        b"\x85\xa4type\xacTensorHeader\xa4step\x07\xa6number\x03"
        b"\xa5dtype\xa8bfloat16\xa5shape\x92\x02\x10"
    )


@pytest.mark.parametrize(
    ("message", "bound"),
    [
        (TensorHeader(0, 0, "uint8", [0]), MAX_PAYLOAD_BYTES),
        (PlanHeader(1), 1 << 26),
        (ResultHeader(1), 1 << 26),
        (DataHello("s", 1), 0),
        (FailureHeader("link_lost", "why"), 0),
        (Ping(), 0),
    ],
)
def test_what_may_follow_a_message_is_bounded_by_its_kind(
    message: msgspec.Struct, bound: int
) -> None:
    check_payload(message, bound)
    with pytest.raises(ProtocolError, match="bytes after it"):
        check_payload(message, bound + 1)


@pytest.mark.parametrize(
    "message",
    [
        Known([("10.0.0.1", 1)] * (MAX_RANKS + 1)),
        Invitation("s", ["n"] * (MAX_RANKS + 1)),
        Proposal("s", Parallelism.TENSOR, [Part("n", 0, 1)] * (MAX_RANKS + 1), 1, 1, "why"),
        hello(layers=[1] * (MAX_RANKS + 1)),
        hello(model={"layer_bytes": [1] * 2049}),
    ],
)
def test_lists_that_no_cluster_has_are_refused(message: ToNode) -> None:
    to_node: HeaderDecoder[ToNode] = HeaderDecoder(ToNode)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="length"):
        to_node.decode(encode_frame(message)[PREFIX_BYTES:])


def test_the_largest_hello_fits_a_header() -> None:
    settings = {f"{number:032}": "x" * 64 for number in range(128)}
    model = {"layer_bytes": [1 << 40] * 2048, "read_bytes": [1 << 40] * 2048, "settings": settings}
    said = hello(model=model, layers=[64] * MAX_RANKS)
    assert decode_prefix(encode_frame(said)[:PREFIX_BYTES])[0] <= MAX_HEADER_BYTES
