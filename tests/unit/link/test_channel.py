"""A data channel: what it carries, how long it waits, and how it ends."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tests.support.links import TIMEOUT_S, channels

from tandem.errors import LinkLost, ProtocolError, TandemError
from tandem.link import TlsChannel
from tandem.protocol.cluster import TensorHeader


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 9_000_001])
def test_both_sides_can_send_at_once(tmp_path: Path, size: int) -> None:
    with channels(tmp_path) as (zero, one):
        received: list[bytes] = []

        def other_side() -> None:
            received.append(bytes(one.swap(_header(1, size), memoryview(b"1" * size))[1]))

        thread = threading.Thread(target=other_side)
        thread.start()
        header, payload = zero.swap(_header(0, size), memoryview(b"0" * size))
        thread.join(TIMEOUT_S)
    assert header == _header(1, size)
    assert payload == b"1" * size
    assert received == [b"0" * size]


def _header(number: int, size: int) -> TensorHeader:
    return TensorHeader(0, number, "uint8", [size])


def test_a_silent_peer_is_an_error_at_the_deadline(tmp_path: Path) -> None:
    with channels(tmp_path, timeout_s=1.0) as (zero, _), pytest.raises(LinkLost, match="silent"):
        zero.receive()


def test_aborting_wakes_whoever_waits(tmp_path: Path) -> None:
    with channels(tmp_path) as (zero, _):
        waiting, errors = threading.Event(), list[TandemError]()

        def wait() -> None:
            waiting.set()
            try:
                zero.receive(patient=True)
            except LinkLost as error:
                errors.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        waiting.wait(TIMEOUT_S)
        zero.abort()
        thread.join(TIMEOUT_S)
        assert len(errors) == 1


def test_a_frame_that_is_no_message_is_a_protocol_error(tmp_path: Path) -> None:
    with channels(tmp_path) as (zero, one):
        assert isinstance(one, TlsChannel)
        one._connection.sendall(b"\x00\x00\x00\x02\x00\x00\x00\x00\xc1\xc1")
        with pytest.raises(ProtocolError):
            zero.receive()
