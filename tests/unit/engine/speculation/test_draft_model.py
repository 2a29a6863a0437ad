"""Guesses of another model: its cache follows what is said, and its troubles are its own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.engines.played_model import BLOCK, PlayedModel, expected_tokens, next_token

from tandem.engine import SamplingParams, StepPlan, StepResult
from tandem.engine.core.block_manager import BlockManager
from tandem.engine.core.sequence import Sequence
from tandem.engine.core.step import SampledToken
from tandem.engine.speculation import DraftLimits, DraftModel
from tandem.engine.speculation.draft_model import _NEAR, _ROUND


class Executor:
    """The played model, which may fail, or have numbers that are not finite."""

    stages = depth = 1

    def __init__(self, blocks: int) -> None:
        self.model = PlayedModel(blocks)
        self.plans: list[StepPlan] = []
        self.fails = False
        self.is_finite = True

    def submit(self, plan: StepPlan) -> None:
        if self.fails:
            raise RuntimeError("no such luck")
        self.plans.append(plan)
        self._result = self.model.run(plan)

    def collect(self) -> StepResult:
        if self.is_finite:
            return self._result
        spoilt = [SampledToken(one.sequence_id, None) for one in self._result.tokens]
        return StepResult(self._result.step, spoilt)

    def close(self) -> None:
        """Nothing is held."""


class Ticking:
    """A clock that goes on by a second each time that it is asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def drafting(
    blocks: int = 64, vocabulary: int = 256, guessable: int = 256, context_length: int = 1000
) -> tuple[DraftModel, Executor, BlockManager]:
    executor, manager = Executor(blocks), BlockManager(blocks, BLOCK)
    limits = DraftLimits(vocabulary=vocabulary, guessable=guessable, context_length=context_length)
    return DraftModel(executor, manager, limits, Ticking()), executor, manager


def sequence(tokens: list[int], number: int = 1) -> Sequence:
    return Sequence(number, number, 0, tokens, SamplingParams(max_tokens=500), len(tokens))


def guessed(draft: DraftModel, one: Sequence, count: int) -> list[int]:
    draft.chances([one], [count])
    return draft.guess([one], [count])[0]


def test_it_guesses_what_it_would_say_itself() -> None:
    draft, executor, _ = drafting()
    assert guessed(draft, sequence([5, 6, 7]), 4) == expected_tokens([5, 6, 7], 4)
    assert [plan.rows for plan in executor.plans] == [3, 1, 1, 1]
    assert draft.round_s == 1.0


def test_a_round_that_was_long_is_tried_again_in_the_end() -> None:
    draft, _, _ = drafting()
    one = sequence([5, 6, 7])
    assert guessed(draft, one, 2)
    assert draft.round_s == 0.0, "two rounds tell nothing"
    guessed(draft, one, 2)
    assert draft.round_s == 1.0
    for _ in range(128):
        guessed(draft, one, 0)
    assert draft.round_s == 0.5
    guessed(draft, one, 1)
    assert draft.round_s == 1.0


def test_sequences_guess_together_and_each_as_many_as_asked_for() -> None:
    draft, executor, _ = drafting()
    several = [sequence([5, 6], 1), sequence([7, 8, 9], 2), sequence([3], 3)]
    draft.chances(several, [9, 9, 9])
    assert draft.guess(several, [1, 3, 0]) == [
        expected_tokens([5, 6], 1),
        expected_tokens([7, 8, 9], 3),
        [],
    ]
    assert [plan.rows for plan in executor.plans] == [5, 1, 1]


def test_after_wrong_guesses_only_what_is_new_is_computed() -> None:
    draft, executor, _ = drafting()
    one = sequence([5, 6, 7])
    first = guessed(draft, one, 4)
    one.tokens += [*first[:2], 77]
    executor.plans.clear()
    assert guessed(draft, one, 2) == expected_tokens(one.tokens, 2)
    assert [plan.rows for plan in executor.plans] == [1, 1]
    one.tokens += [*expected_tokens(one.tokens, 3)]
    executor.plans.clear()
    guessed(draft, one, 1)
    assert [plan.rows for plan in executor.plans] == [2], "the last guess, and what came after it"


def test_a_long_prompt_is_read_in_pieces_before_it_is_guessed_for() -> None:
    draft, executor, _ = drafting(blocks=300)
    one = sequence([token % 256 for token in range(_ROUND + 100)])
    found = [guessed(draft, one, 2) for _ in range(3)]
    assert found == [[], expected_tokens(one.tokens, 2), expected_tokens(one.tokens, 2)]
    assert [plan.rows for plan in executor.plans][:3] == [_ROUND, 99, 1]
    short = sequence([9] * _NEAR, 2)
    assert guessed(draft, short, 1) == expected_tokens(short.tokens, 1)


def test_a_known_prompt_is_not_read_again() -> None:
    draft, executor, _ = drafting()
    first, again = sequence(list(range(40)), 1), sequence(list(range(40)), 2)
    for _ in range(2):
        guessed(draft, first, 1)
    draft.forget(first)
    executor.plans.clear()
    assert guessed(draft, again, 1) == expected_tokens(again.tokens, 1)
    assert [plan.rows for plan in executor.plans] == [4]


def test_chances_go_by_what_came_of_earlier_guesses_and_recover() -> None:
    draft, _, _ = drafting()
    good, bad = sequence([5, 6], 1), sequence([7, 8], 2)
    for _ in range(20):
        draft.chances([good, bad], [2, 2])
        guesses = draft.guess([good, bad], [2, 2])
        good.tokens += guesses[0]
        bad.tokens.append((guesses[1][0] + 1) % 256)
    likely, unlikely = draft.chances([good, bad], [2, 2])
    assert likely[0] > 0.9
    assert likely[1] == pytest.approx(likely[0] ** 2)
    assert unlikely[0] < 0.15
    for _ in range(200):
        bad.tokens.append(1)
        draft.chances([bad], [1])
    assert draft.chances([bad], [1])[0][0] > 0.4


def test_what_it_cannot_read_or_the_other_cannot_say_is_not_guessed() -> None:
    draft, _, _ = drafting(vocabulary=100)
    assert draft.chances([sequence([5, 100])], [4]) == [[]]
    expected = expected_tokens([5, 6, 0], 4)
    assert expected[0] < expected[1], "so that the second one is the first that is too large"
    draft, _, _ = drafting(guessable=expected[1])
    assert guessed(draft, sequence([5, 6, 0]), 4) == expected[:1]
    draft, _, _ = drafting(context_length=5)
    assert len(draft.chances([sequence([5, 6, 7])], [4])[0]) == 2


def test_its_failures_cost_guesses_and_nothing_else() -> None:
    draft, executor, manager = drafting()
    one, other = sequence([5, 6, 7], 1), sequence([8, 9], 2)
    executor.is_finite = False
    assert guessed(draft, one, 3) == []
    assert draft.chances([one], [3]) == [[]]
    executor.is_finite = True
    assert guessed(draft, other, 2) == expected_tokens([8, 9], 2)
    executor.fails = True
    other.tokens += [1, 2]
    assert guessed(draft, other, 2) == []
    assert draft.chances([other], [3]) == [[]]
    for each in (one, other):
        draft.forget(each)
    assert manager.free == 64


def test_who_is_not_asked_for_gives_room_to_who_is() -> None:
    draft, _, manager = drafting(blocks=4)
    first, second = sequence([5] * 9, 1), sequence([6] * 9, 2)
    assert guessed(draft, first, 1) == expected_tokens(first.tokens, 1)
    assert guessed(draft, second, 1) == expected_tokens(second.tokens, 1)
    draft.chances([first, second], [1, 1])
    assert [len(one) for one in draft.guess([first, second], [1, 1])] in ([0, 1], [1, 0])
    for each in (first, second):
        draft.forget(each)
    assert manager.free == 4


@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=40), min_size=1, max_size=4),
    turns=st.lists(
        st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), min_size=4, max_size=4),
        max_size=20,
    ),
    blocks=st.integers(1, 40),
)
def test_guesses_are_its_own_words_whatever_was_said(
    prompts: list[list[int]], turns: list[list[tuple[int, int]]], blocks: int
) -> None:
    """The played model fails if its cache does not hold what it should."""
    draft, _, manager = drafting(blocks=blocks)
    sequences = [sequence(list(prompt), number) for number, prompt in enumerate(prompts)]
    for turn in turns:
        counts = [count for count, _ in turn[: len(sequences)]]
        draft.chances(sequences, counts)
        guesses = draft.guess(sequences, counts)
        for one, guess, (count, right) in zip(sequences, guesses, turn, strict=False):
            assert guess == expected_tokens(one.tokens, len(guess))
            assert len(guess) <= count
            one.tokens += [*guess[:right], next_token(one.tokens) if right % 2 else 7]
    for one in sequences:
        draft.forget(one)
    manager.check([])
