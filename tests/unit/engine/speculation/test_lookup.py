"""Guesses from a sequence's own tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine import SamplingParams
from tandem.engine.core.sequence import Sequence
from tandem.engine.speculation import lookup
from tandem.engine.speculation.lookup import Lookup


def sequence(tokens: list[int], number: int = 1, max_tokens: int = 100) -> Sequence:
    return Sequence(number, number, 0, tokens, SamplingParams(max_tokens=max_tokens), len(tokens))


def guessed(source: Lookup, one: Sequence, count: int) -> list[int]:
    (chances,) = source.chances([one], [count])
    (found,) = source.guess([one], [len(chances)])
    return found


def test_what_followed_before_is_guessed_to_follow_again() -> None:
    assert guessed(Lookup(), sequence([1, 2, 3, 4, 5, 6, 9, 1, 2]), 4) == [3, 4, 5, 6]


def test_of_several_places_the_last_one_counts_and_a_longer_likeness_before_it() -> None:
    assert guessed(Lookup(), sequence([1, 2, 30, 0, 1, 2, 31, 0, 7, 1, 2]), 1) == [31]
    longer = [5, 6, 1, 2, 30, 0, 1, 2, 31, 0, 5, 6, 1, 2]
    assert guessed(Lookup(), sequence(longer), 1) == [30]


def test_what_repeats_itself_goes_on_beyond_the_last_token() -> None:
    assert guessed(Lookup(), sequence([1, 2, 3, 1, 2, 3, 1, 2, 3]), 7)[:5] == [1, 2, 3, 1, 2]


def test_new_text_is_not_guessed_at() -> None:
    source = Lookup()
    assert source.chances([sequence(list(range(50)))], [8]) == [[]]
    assert source.guess([sequence(list(range(50)))], [0]) == [[]]


def test_right_and_wrong_guesses_are_counted_whether_or_not_they_were_made() -> None:
    source, good, bad = Lookup(), sequence([1, 2, 3] * 4), sequence([1, 2], 2)
    for step in range(30):
        good.tokens.append(good.tokens[-3])
        bad.tokens += [100 + step, 1, 2]
    (likely, unlikely) = source.chances([good, bad], [3, 3])
    assert likely[0] > 0.9
    assert unlikely[0] < 0.15
    assert likely == sorted(likely, reverse=True)


def test_a_step_reads_so_much_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_A_STEP", 10)
    source = Lookup()
    one, other = sequence([1, 2, 3] * 4), sequence([4, 5, 6] * 4, 2)
    asked = [source.chances([one, other], [1, 1]) for _ in range(4)]
    assert [[bool(found) for found in step] for step in asked] == [
        [False, False],
        [True, False],
        [True, True],
        [True, True],
    ]


def test_what_is_kept_of_a_long_text_is_bounded_and_dropped_in_the_end() -> None:
    source, one = Lookup(), sequence([7] * 10, max_tokens=1_000_000)
    source.chances([one], [1])
    tables = source._repeats[1]._ends.values()
    assert sum(len(table) * table.itemsize for table in tables) <= 2**18
    source.forget(one)
    source.forget(one)
    assert source._repeats == {}


@given(
    tokens=st.lists(st.integers(0, 3), min_size=1, max_size=80),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=40),
    bits=st.integers(1, 6),
)
def test_whatever_was_overwritten_a_guess_is_what_followed_the_same_tokens(
    tokens: list[int], cuts: list[int], bits: int
) -> None:
    """With tables far too small, and whenever it is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "_MAX_BITS", bits)
        source, one = Lookup(), sequence(tokens[:1])
        for cut in cuts:
            one.tokens += tokens[len(one.tokens) : len(one.tokens) + cut]
            found = guessed(source, one, 5)
            if found:
                text = one.tokens
                followed = {
                    tuple([*text, *found][end : end + len(found)])
                    for end in range(2, len(text))
                    if text[end - 2 : end] == text[-2:]
                }
                assert tuple(found) in followed
