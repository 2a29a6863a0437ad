"""How many guesses a step carries, and that it never costs more than a little."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine import SamplingParams, StepPlan, StepResult
from tandem.engine.core.block_manager import BlockManager
from tandem.engine.core.sequence import Sequence as Tokens
from tandem.engine.core.step import SampledToken, SampleSpec
from tandem.engine.speculation import DraftLimits, DraftModel
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


@dataclass
class Clock:
    """Stands still while nobody computes."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Drafting:
    """A model that costs an eighth, and says what comes next as often as that is `right`."""

    stages = depth = 1

    def __init__(
        self, clock: Clock, texts: Sequence[list[int]], right: float, costs: Callable[[int], float]
    ) -> None:
        self._clock, self._texts, self._costs = clock, texts, costs
        self._right, self._numbers = right, random.Random(1)

    def submit(self, plan: StepPlan) -> None:
        self._clock.now += self._costs(plan.rows) / 8
        said = [
            SampledToken(step.sequence_id, self._says(self._texts[step.sequence_id], step.sample))
            for step in plan.sequences
            if step.sample is not None
        ]
        self._result = StepResult(plan.step, said)

    def _says(self, text: list[int], place: SampleSpec) -> int:
        coming = text[place.position] if place.position < len(text) else 0
        return coming if self._numbers.random() < self._right else (coming + 1) % 1000

    def collect(self) -> StepResult:
        return self._result

    def close(self) -> None:
        """Nothing is held."""


def drafted(
    texts: Sequence[list[int]],
    prompt: int,
    costs: Callable[[int], float],
    right: float,
    streams: int,
) -> float:
    """As `played`, with so many streams at a time and a draft model."""
    clock = Clock()
    draft = DraftModel(
        Drafting(clock, texts, right, costs),
        BlockManager(4096, 16),
        DraftLimits(vocabulary=1000, guessable=1000, context_length=10_000),
        clock,
    )
    guesser = AdaptiveGuesser(draft, clock)
    plain = sum(
        played_by(guesser, clock, texts[start : start + streams], prompt, costs, start)
        for start in range(0, len(texts), streams)
    )
    return clock.now / plain


def played(texts: Sequence[list[int]], prompt: int, costs: Callable[[int], float]) -> float:
    """How many times as long as without guesses the rest of these texts takes, in played time."""
    clock = Clock()
    plain = played_by(AdaptiveGuesser(Lookup(), clock), clock, texts, prompt, costs)
    return clock.now / plain


def played_by(
    guesser: AdaptiveGuesser,
    clock: Clock,
    texts: Sequence[list[int]],
    prompt: int,
    costs: Callable[[int], float],
    first_id: int = 0,
) -> float:
    """Seconds that these texts take without guesses; the clock goes on by what they take."""
    coming = {first_id + index: text for index, text in enumerate(texts)}
    sequences = [
        Tokens(
            number, number, 0, text[:prompt], SamplingParams(max_tokens=len(text) - prompt), prompt
        )
        for number, text in coming.items()
    ]
    plain = 0.0
    while left := [s for s in sequences if len(s.tokens) < len(coming[s.sequence_id])]:
        most = [len(coming[s.sequence_id]) - len(s.tokens) - 1 for s in left]
        guesses = guesser.guess(left, most)
        assert all(len(one) <= min(n, MAX_GUESSES) for one, n in zip(guesses, most, strict=True))
        rows = len(left) + sum(map(len, guesses))
        clock.now += costs(rows)
        tokens = 0
        for sequence, guessed in zip(left, guesses, strict=True):
            rest = coming[sequence.sequence_id][len(sequence.tokens) :]
            right = 0
            while right < len(guessed) and guessed[right] == rest[right]:
                right += 1
            sequence.tokens += rest[: right + 1]
            tokens += right + 1
        guesser.observe(rows, costs(rows), len(left), tokens)
        plain += tokens * costs(len(left)) / len(left)
    for sequence in sequences:
        guesser.forget(sequence)
    return plain


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


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("right", [0.0, 0.7])
def test_a_draft_model_whose_prompts_cost_more_than_it_gains_is_left(
    costs: Callable[[int], float], right: float
) -> None:
    """Reading them took half as long again as all answers, when only rounds were counted."""
    texts = [noise(seed, 900, 1000) for seed in range(32)]
    assert drafted(texts, 700, costs, right, 8) < 1.08


@pytest.mark.parametrize(
    ("costs", "at_most"), [(flat, 0.45), (tiled, 0.55), (reading, 0.55), (linear, 1.15)]
)
def test_a_draft_model_that_gains_is_kept(costs: Callable[[int], float], at_most: float) -> None:
    texts = [noise(seed, 900, 1000) for seed in range(4)]
    assert drafted(texts, 700, costs, 0.95, 1) < at_most


def test_a_source_that_takes_longer_than_its_guesses_save_is_seldom_asked() -> None:
    """Whatever it does with the time: it tells only of its rounds."""
    clock = Clock()

    class Slow(Lookup):
        asked = 0

        def chances(self, sequences: Sequence[Tokens], most: Sequence[int]) -> list[list[float]]:
            clock.now += 0.5
            self.asked += 1
            return super().chances(sequences, most)

    source = Slow()
    texts = [noise(1, 2000, 1000)]
    plain = played_by(AdaptiveGuesser(source, clock), clock, texts, 100, flat)
    assert 0 < source.asked < 110
    assert clock.now / plain < 1.03
