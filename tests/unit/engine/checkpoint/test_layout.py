"""Where a file has rows in another order than layers want them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.checkpoint.layout import Pairs


def test_the_firsts_of_all_pairs_come_before_the_seconds() -> None:
    assert Pairs(each=6, rotated=4).halved(12) == [0, 2, 1, 3, 4, 5, 6, 8, 7, 9, 10, 11]
    assert Pairs(each=6, rotated=4, first=1).halved(6) == [0, 1, 3, 2, 4, 5]


@given(half=st.integers(0, 8), rest=st.integers(0, 5), heads=st.integers(1, 4))
def test_every_row_keeps_to_its_head_and_partners_are_half_of_what_rotates_apart(
    half: int, rest: int, heads: int
) -> None:
    each = max(1, 2 * half + rest)
    order = Pairs(each, 2 * half).halved(heads * each)
    assert sorted(order) == list(range(heads * each))
    for head in range(heads):
        own = order[head * each : (head + 1) * each]
        assert set(own) == set(range(head * each, (head + 1) * each))
        assert all(own[half + number] == own[number] + 1 for number in range(half))
