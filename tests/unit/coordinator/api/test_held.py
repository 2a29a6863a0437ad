"""What requests hold in memory: bounded for each consumer and in all, and given back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.coordinator.api.held import HeldBytes
from tandem.errors import Overloaded, RateLimited

KIB = 1024


def test_each_consumer_has_a_share_and_all_have_one() -> None:
    held = HeldBytes(most=12, most_each=7)  # a fifth of it for answers
    with held.hold("a") as first, held.hold("a") as second, held.hold("b") as other:
        first.resize(4)
        with pytest.raises(RateLimited):
            second.resize(3)
        second.resize(2)
        with pytest.raises(Overloaded):
            other.resize(5)
        other.resize(4)
        assert held.all == 10
        first.resize(0)
        other.resize(6)
    assert held.all == 0


def test_room_can_be_asked_for_before_it_is_taken() -> None:
    held = HeldBytes(most=12, most_each=7)
    with held.hold("a") as mine:
        mine.check(6)
        assert held.all == 0
        with pytest.raises(RateLimited):
            mine.check(7)
        mine.resize(5)
        mine.check(6)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from("ab"), st.integers(0, 40)), max_size=60)
)
def test_the_sums_are_those_of_the_parts(steps: list[tuple[int, str, int]]) -> None:
    held = HeldBytes(most=50, most_each=30)
    of = {(i, key): held.hold(key) for i in range(4) for key in "ab"}
    sizes = dict.fromkeys(of, 0)
    for i, key, size in steps:
        try:
            of[i, key].resize(size)
            sizes[i, key] = size
        except (RateLimited, Overloaded):
            assert size > sizes[i, key]
        each = [sum(n for (_, k), n in sizes.items() if k == key) for key in "ab"]
        assert max(each) <= 24
        assert held.all == sum(each) <= 40
    for mine in of.values():
        mine.resize(0)
    assert held.all == 0


def test_what_is_kept_for_a_while_is_given_back_as_it_was_taken() -> None:
    held = HeldBytes(most=100, most_each=100)
    with held.hold("a") as mine:
        mine.resize(80)
        mine.keep(20)
        with pytest.raises(RateLimited):
            mine.keep(1)
        mine.keep(-15)
        assert held.all == 85
    assert held.all == 0


def test_answers_have_room_when_there_is_none_for_requests() -> None:
    held = HeldBytes(most=1000 * KIB, most_each=500 * KIB)
    with held.hold("a") as mine, held.hold("a") as other:
        mine.resize(400 * KIB)
        with pytest.raises(RateLimited):
            other.resize(1)
        for _ in range(100):  # in steps: there is nothing to count in a token
            mine.grow(1 * KIB)
        assert held.all == (400 + 64) * KIB
        with pytest.raises(RateLimited):
            mine.grow(100 * KIB)
    assert held.all == 0
