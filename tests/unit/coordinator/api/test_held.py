"""What requests hold in memory: bounded for each consumer and in all, and given back."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.coordinator.api.held import HeldBytes, memory_of, memory_of_answer, memory_of_tokens
from tandem.coordinator.requests.inference_request import Embedding, Generation, InferenceRequest
from tandem.errors import Overloaded, RateLimited
from tandem.protocol import (
    ChatMessage,
    ChatPrompt,
    Delta,
    ModelName,
    Sampling,
    TextPrompt,
    TokenLogprob,
    TokenPrompt,
    TopLogprob,
)


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


@pytest.mark.parametrize("text", ["a" * 10_000, "a" * 10_000 + "\N{FOX FACE}"])
def test_a_text_counts_as_wide_as_it_is_kept(text: str) -> None:
    """One rare character makes four bytes of each."""
    model, size = ModelName("m"), sys.getsizeof(text)
    for task in (
        Generation([TextPrompt(text)], 3, Sampling()),
        Generation([ChatPrompt([ChatMessage("user", text)])], 1, Sampling()),
        Embedding([TextPrompt(text)]),
    ):
        assert size <= memory_of(InferenceRequest(model, task)) <= size + 1000


def test_token_ids_count_as_numbers() -> None:
    ids = [1000 + i for i in range(5000)]
    size = sys.getsizeof(ids) + sum(map(sys.getsizeof, ids))
    request = InferenceRequest(ModelName("m"), Embedding([TokenPrompt(ids)]))
    assert size * 0.9 <= memory_of(request) <= size * 1.5


KIB = 1024


def deltas(logprobs: int | None = None) -> list[Delta]:
    """16 KiB of text, with a token's log probability where it is asked for."""
    entry = TokenLogprob("a", 7, -0.5, b"a", [TopLogprob("a", 7, -0.5, b"a")] * (logprobs or 0))
    return [Delta(0, "a" * 16 * KIB, [7], None if logprobs is None else [entry])]


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


def test_an_answer_counts_with_all_that_is_kept_of_it() -> None:
    plain = memory_of_answer(deltas())
    assert 16 * KIB < plain < 17 * KIB
    assert memory_of_answer(deltas(0)) > plain
    assert memory_of_answer(deltas(20)) > plain + 20 * 200
    assert memory_of_tokens(deltas(20)) < 100
