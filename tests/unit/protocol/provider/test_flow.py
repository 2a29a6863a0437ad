"""Credit between a provider and its coordinator: nothing is lost, too much, or stuck."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.errors import ProtocolError
from tandem.protocol import Delta, ReceiveWindow, SendWindow


def delta(token: int, index: int = 0) -> Delta:
    return Delta(index, f"{token} ", [token])


def test_what_finds_no_credit_is_joined_until_a_grant() -> None:
    window = SendWindow(1)
    window.add([delta(1), delta(2, index=1)])
    assert window.take() == [delta(1), delta(2, index=1)]
    window.add([delta(3)])
    window.add([delta(4)])
    assert window.take() == []
    window.grant(2)
    assert window.take() == [Delta(0, "3 4 ", [3, 4])]
    assert window.take() == []


def test_half_a_window_is_granted_at_a_time() -> None:
    window = ReceiveWindow(4)
    granted = []
    for token in range(4):
        window.add([delta(token)])
        deltas, chunks = window.take()
        assert deltas == [delta(token)]
        granted.append(chunks)
    assert granted == [0, 2, 0, 2]


def test_what_was_not_taken_is_joined() -> None:
    window = ReceiveWindow(4)
    assert not window
    window.add([delta(1)])
    window.add([delta(2), delta(9, index=1)])
    assert window
    assert window.take() == ([Delta(0, "1 2 ", [1, 2]), delta(9, index=1)], 2)
    assert not window


def test_a_chunk_without_credit_breaks_the_protocol() -> None:
    window = ReceiveWindow(2)
    window.add([delta(1)])
    window.add([delta(2)])
    with pytest.raises(ProtocolError, match="more than 2 chunks"):
        window.add([delta(3)])


@given(st.integers(1, 9), st.lists(st.sampled_from(["make", "send", "take", "grant"])))
def test_both_ends_agree_whatever_is_late(window: int, order: list[str]) -> None:
    """Chunks and grants arrive in order, each as late as it likes; then all of them do."""
    sender, receiver = SendWindow(window), ReceiveWindow(window)
    chunks: list[list[Delta]] = []
    grants: list[int] = []
    made, taken = 0, ""
    for step in [*order, *["send", "take", "grant"] * (len(order) + window)]:
        if step == "make":
            sender.add([delta(made)])
            made += 1
        elif step == "send":
            if sent := sender.take():
                chunks.append(sent)
        elif step == "grant":
            if grants:
                sender.grant(grants.pop(0))
        else:
            while chunks:
                receiver.add(chunks.pop(0))  # raises when the sender had no credit
            if receiver:
                deltas, granted = receiver.take()
                taken += "".join(piece.text for piece in deltas)
                grants += [granted] if granted else []
    assert taken == "".join(f"{token} " for token in range(made))
    assert not sender.blocked
