"""What is sealed opens once, in its place, unaltered; everything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tandem.errors import ProtocolError
from tandem.security import (
    RecipientKey,
    ReplyChannel,
    SealingKey,
    new_reply_key,
    request_context,
)

KEY = SealingKey()
SEALER = RecipientKey(KEY.public)
CONTEXT = request_context(b"nonce", 3, "r1")
SEALED = SEALER.seal(b"a secret prompt", CONTEXT)


def test_the_recipient_opens_it_and_the_prompt_is_not_in_it() -> None:
    assert KEY.open(SEALED, CONTEXT) == b"a secret prompt"
    assert b"secret" not in SEALED
    assert SEALER.seal(b"a secret prompt", CONTEXT) != SEALED


@pytest.mark.parametrize(
    "context",
    [
        request_context(b"other", 3, "r1"),
        request_context(b"nonce", 4, "r1"),
        request_context(b"nonce", 3, "r2"),
    ],
    ids=["another connection", "another place", "another request"],
)
def test_out_of_its_place_it_does_not_open(context: bytes) -> None:
    with pytest.raises(ProtocolError):
        KEY.open(SEALED, context)


def test_a_key_made_ahead_is_used_once() -> None:
    announced = SEALER.make_ahead()
    assert announced is not None
    assert SEALER.make_ahead() is None
    first, second = (SEALER.seal(b"a secret prompt", CONTEXT) for _ in range(2))
    assert first.startswith(announced)
    assert not second.startswith(announced)


@pytest.mark.parametrize("hinted", [[], [0], [1], [0, 1], [1, 0]])
def test_whatever_is_announced_requests_open(hinted: list[int]) -> None:
    provider = SealingKey()
    sealer = RecipientKey(provider.public)
    announced, sealed = [], []
    for number in range(2):
        announced.append(sealer.make_ahead() or b"")
        sealed.append(sealer.seal(b"%d" % number, CONTEXT))
    for number in hinted:
        provider.open_ahead(announced[number])
    assert [provider.open(one, CONTEXT) for one in sealed] == [b"0", b"1"]


def test_an_announced_key_opens_nothing_out_of_its_place() -> None:
    announced = SEALER.make_ahead()
    assert announced is not None
    KEY.open_ahead(announced)
    with pytest.raises(ProtocolError):
        KEY.open(SEALER.seal(b"a secret prompt", CONTEXT), request_context(b"other", 3, "r1"))


@pytest.mark.parametrize("sealed_key", [b"", SEALED[:100], SEALED], ids=["none", "half", "more"])
def test_what_is_no_sealed_key_is_refused(sealed_key: bytes) -> None:
    with pytest.raises(ProtocolError):
        KEY.open_ahead(sealed_key)


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(ProtocolError):
        SealingKey().open(SEALED, CONTEXT)


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(SEALED) * 8 - 1))
def test_no_flipped_bit_goes_unnoticed(bit: int) -> None:
    altered = bytearray(SEALED)
    altered[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError):
        KEY.open(bytes(altered), CONTEXT)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(SEALED) - 1))
@example(0)
def test_a_truncated_request_does_not_open(length: int) -> None:
    with pytest.raises(ProtocolError):
        KEY.open(SEALED[:length], CONTEXT)


@pytest.mark.parametrize("public", [b"", b"x" * 31, b"\xff" * len(KEY.public)])
def test_what_is_no_key_is_refused(public: bytes) -> None:
    with pytest.raises(ProtocolError):
        RecipientKey(public)


Order = st.lists(st.integers(0, 5), max_size=12)


@settings(max_examples=200, deadline=None)
@given(Order)
def test_answers_open_in_order_and_once(order: list[int]) -> None:
    """Whatever is repeated, left out or moved, the first that is out of place is refused."""
    key = new_reply_key()
    sender, receiver = ReplyChannel(key, "r1"), ReplyChannel(key, "r1")
    sealed = [sender.seal(b"%d" % number) for number in range(6)]
    for due, number in enumerate(order):
        if number != due:
            with pytest.raises(ProtocolError):
                receiver.open(sealed[number])
            return
        assert receiver.open(sealed[number]) == b"%d" % number


def test_an_answer_to_another_request_is_refused() -> None:
    key = new_reply_key()
    with pytest.raises(ProtocolError):
        ReplyChannel(key, "r2").open(ReplyChannel(key, "r1").seal(b"text"))
    with pytest.raises(ProtocolError):
        ReplyChannel(b"short", "r1")
