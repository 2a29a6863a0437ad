"""Credit between a provider and its coordinator: nothing is lost, too much, or stuck."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.errors import ProtocolError
from tandem.protocol import (
    Chunk,
    Delta,
    ReceiveWindow,
    SendWindow,
    TokenLogprob,
    TopLogprob,
    encode_padded,
)
from tandem.protocol.provider.codec import MAX_REPLY_BYTES


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


def test_what_has_waited_long_goes_in_pieces_of_a_bounded_size() -> None:
    """A consumer that reads nothing for a while makes no message that is too large to send."""
    window = SendWindow(1)
    window.take()
    window.add(delta(token, index=token % 3) for token in range(1000))
    chunks = []
    while deltas := window.take():
        chunks.append(deltas)
        window.grant(1)
    assert max(sum(len(d.token_ids) for d in deltas) for deltas in chunks) == 256
    assert max(map(len, chunks)) == 3
    for index in range(3):
        of_one = [d for deltas in chunks for d in deltas if d.index == index]
        assert [t for d in of_one for t in d.token_ids] == list(range(index, 1000, 3))
        assert "".join(d.text for d in of_one) == "".join(f"{t} " for t in range(index, 1000, 3))


@pytest.mark.parametrize("character", ["a", "\N{GRINNING FACE}"])
def test_no_vocabulary_makes_a_message_that_is_too_large_to_send(character: str) -> None:
    """A consumer that reads nothing, twenty log probabilities a token, and the longest tokens."""
    token, raw = character * 1024, b"a" * 1024
    entry = TokenLogprob(token, 7, -1.0, raw, [TopLogprob(token, 7, -1.0, raw)] * 20)
    window = SendWindow(1)
    window.take()
    window.add(Delta(number % 3, token, [7], [entry]) for number in range(100))
    taken = 0
    window.grant(1)
    while deltas := window.take():
        assert len(encode_padded(Chunk(deltas))) < MAX_REPLY_BYTES // 2
        taken += sum(len(d.token_ids) for d in deltas)
        window.grant(1)
    assert taken == 100


def test_joining_costs_in_proportion_to_what_is_joined() -> None:
    """Bytes that are copied are counted: joined one by one they would be some hundred million."""
    copied = 0

    class Counted(list[int]):
        def __iter__(self) -> Iterator[int]:
            nonlocal copied
            copied += len(self)
            return super().__iter__()

    window = ReceiveWindow(4)
    window.add(Delta(0, "a", Counted([token])) for token in range(20_000))
    got, granted = [], 0
    while window:
        (piece,), granted = window.take()
        got += list(piece.token_ids)
    assert got == list(range(20_000))
    assert copied == 20_000
    assert granted == 0  # half a window is granted at a time, and this was one chunk


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
