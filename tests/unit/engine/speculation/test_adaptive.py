"""How many guesses a step carries, and that it never costs more than a little."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine import SamplingParams
from tandem.engine.core.sequence import Sequence as Tokens
from tandem.engine.speculation.adaptive import MAX_GUESSES, AdaptiveGuesser, best_counts
from tandem.engine.speculation.lookup import Lookup


def flat(rows: int) -> float:
    """A step costs the same whatever is in it."""
    return 1.0 if rows else 0.0


def linear(rows: int) -> float:
    return float(rows)


def tiled(rows: int) -> float:
    """Eight rows cost what one does."""
    return float(-(-rows // 8))


def reading(rows: int) -> float:
    """Weights are read once a step, and rows cost a little each."""
    return 1.0 + 0.05 * rows


COSTS = [flat, linear, tiled, reading]


def test_where_rows_cost_nothing_all_guesses_are_computed() -> None:
    assert best_counts([[0.5, 0.25], [0.9]], flat, 0.0, 99) == [2, 1]


def test_where_each_row_costs_a_step_none_is() -> None:
    assert best_counts([[0.9, 0.8], [0.9]], linear, 0.0, 99) == [0, 0]


def test_the_likeliest_come_first_and_fill_what_costs_the_same() -> None:
    chances = [[0.9, 0.8, 0.7, 0.6], [0.3, 0.2], [0.95, 0.9, 0.85, 0.8]]
    assert best_counts(chances, tiled, 0.0, 99) == [2, 0, 3]


def test_what_gains_less_than_measurements_tell_is_left() -> None:
    assert best_counts([[0.02]], flat, 0.0, 99) == [0]


def test_no_more_rows_than_are_worth_a_try() -> None:
    assert best_counts([[0.9] * 9], flat, 0.0, 4) == [3]
    assert best_counts([[0.9] * 9], flat, 0.0, 0) == [1]


def test_guesses_that_cost_time_themselves_are_fewer() -> None:
    chances = [[0.8**depth for depth in range(1, 9)]]
    counts = [best_counts(chances, flat, cost, 99)[0] for cost in (0.0, 0.1, 0.3, 0.9)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 8
    assert counts[-1] == 0


@given(
    chances=st.lists(
        st.lists(st.floats(0.0, 1.0), max_size=6).map(lambda row: sorted(row, reverse=True)),
        min_size=1,
        max_size=6,
    ),
    costs=st.sampled_from(COSTS),
    most_rows=st.integers(1, 40),
)
def test_counts_are_within_what_there_is(
    chances: list[list[float]], costs: Callable[[int], float], most_rows: int
) -> None:
    counts = best_counts(chances, costs, 0.0, most_rows)
    assert all(0 <= count <= len(row) for count, row in zip(counts, chances, strict=True))
    assert len(chances) + sum(counts) <= max(most_rows, len(chances) + 1)
    expected = len(chances) + sum(sum(row[:n]) for row, n in zip(chances, counts, strict=True))
    assert expected / costs(len(chances) + sum(counts)) >= len(chances) / costs(len(chances))


def played(texts: Sequence[list[int]], prompt: int, costs: Callable[[int], float]) -> float:
    """How many times as long as without guesses the rest of these texts takes, in played time."""
    guesser = AdaptiveGuesser(Lookup())
    sequences = [
        Tokens(
            index, index, 0, text[:prompt], SamplingParams(max_tokens=len(text) - prompt), prompt
        )
        for index, text in enumerate(texts)
    ]
    seconds = plain = 0.0
    while left := [s for s in sequences if len(s.tokens) < len(texts[s.sequence_id])]:
        most = [len(texts[s.sequence_id]) - len(s.tokens) - 1 for s in left]
        guesses = guesser.guess(left, most)
        assert all(len(one) <= min(n, MAX_GUESSES) for one, n in zip(guesses, most, strict=True))
        rows = len(left) + sum(map(len, guesses))
        guesser.observe(rows, costs(rows))
        seconds += costs(rows)
        tokens = 0
        for sequence, guessed in zip(left, guesses, strict=True):
            coming = texts[sequence.sequence_id][len(sequence.tokens) :]
            right = 0
            while right < len(guessed) and guessed[right] == coming[right]:
                right += 1
            sequence.tokens += coming[: right + 1]
            tokens += right + 1
        plain += tokens * costs(len(left)) / len(left)
    return seconds / plain


def noise(seed: int, count: int, words: int) -> list[int]:
    numbers = random.Random(seed)
    return [numbers.randrange(words) for _ in range(count)]


def quoting(seed: int) -> list[int]:
    """A text that says most of its first part again, with changes."""
    first = noise(seed, 300, 1000)
    again = [token if place % 40 else 5000 + place for place, token in enumerate(first)]
    return [*first, *again]


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("streams", [1, 4, 16])
@pytest.mark.parametrize("words", [2, 30, 1000])
def test_text_that_does_not_repeat_itself_takes_hardly_longer(
    costs: Callable[[int], float], streams: int, words: int
) -> None:
    texts = [noise(seed, 500, words) for seed in range(streams)]
    assert played(texts, 100, costs) < 1.03


@pytest.mark.parametrize(
    ("costs", "at_most"), [(flat, 0.2), (tiled, 0.25), (reading, 0.3), (linear, 1.03)]
)
def test_text_that_repeats_itself_takes_a_fraction(
    costs: Callable[[int], float], at_most: float
) -> None:
    assert played([quoting(1)], 300, costs) < at_most


def test_a_large_batch_of_what_repeats_itself_is_guessed_for_only_where_rows_cost_little() -> None:
    texts = [quoting(seed) for seed in range(16)]
    assert played(texts, 300, flat) < 0.3
    assert played(texts, 300, linear) < 1.03
