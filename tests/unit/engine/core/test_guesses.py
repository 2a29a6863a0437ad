"""Guesses in a plan: steps are saved where they are right, and nothing is lost where not."""

from __future__ import annotations

from tests.support.engines.played_model import BLOCK, Guesses, PlayedModel, expected_tokens

from tandem.engine import SamplingParams, SchedulerLimits
from tandem.engine.core.block_manager import BlockManager
from tandem.engine.core.scheduler import BatchScheduler
from tandem.engine.core.sequence import Sequence, SequenceState
from tandem.engine.core.step import SampledToken, StepPlan, StepResult


def _sequence(number: int, prompt: list[int], max_tokens: int = 5) -> Sequence:
    return Sequence(number, number, 0, prompt, SamplingParams(max_tokens=max_tokens), len(prompt))


def _counts(plan: StepPlan) -> dict[int, int]:
    """Tokens of the step by sequence."""
    return {step.sequence_id: len(step.tokens) for step in plan.sequences}


def _guessing(
    lengths: list[int], wrong: list[bool], blocks: int = 64, **limits: int
) -> BatchScheduler:
    manager = BlockManager(blocks, BLOCK)
    return BatchScheduler(manager, SchedulerLimits(**limits), guesser=Guesses(lengths, wrong))


def _run(scheduler: BatchScheduler, model: PlayedModel, steps: int = 1) -> list[StepPlan]:
    plans = []
    for _ in range(steps):
        plan = scheduler.schedule()
        assert plan is not None
        scheduler.commit(plan, model.run(plan))
        plans.append(plan)
    return plans


def test_right_guesses_save_a_step_each() -> None:
    scheduler, model = _guessing([3], [False]), PlayedModel(64)
    sequence = _sequence(1, [5, 6], max_tokens=9)
    scheduler.add([sequence])
    plans = _run(scheduler, model, 3)
    assert sequence.state is SequenceState.FINISHED
    assert [_counts(plan) for plan in plans] == [{1: 2}, {1: 4}, {1: 4}]
    assert (scheduler.guessed, scheduler.guessed_right) == (6, 6)


def test_what_comes_before_a_wrong_guess_counts_and_its_slot_is_written_again() -> None:
    scheduler, model = _guessing([3], [False, True, False]), PlayedModel(64)
    sequence = _sequence(1, [5, 6], max_tokens=9)
    scheduler.add([sequence])
    first, second, third = _run(scheduler, model, 3)
    assert [plan.sequences[0].start for plan in (first, second, third)] == [0, 2, 4]
    assert third.sequences[0].tokens[0] == sequence.tokens[4] != second.sequences[0].tokens[2]
    assert (scheduler.guessed, scheduler.guessed_right) == (6, 2)


def test_nothing_is_guessed_beyond_the_longest_answer() -> None:
    scheduler, model = _guessing([6], [False]), PlayedModel(64)
    sequence = _sequence(1, [5, 6], max_tokens=4)
    scheduler.add([sequence])
    _, plan = _run(scheduler, model, 2)
    assert plan.sequences[0].drafts == 2
    assert sequence.tokens[2:] == expected_tokens([5, 6], 4)


def test_nothing_is_guessed_beside_a_prompt() -> None:
    scheduler, model = _guessing([3], [False], step_tokens=8), PlayedModel(64)
    scheduler.add([_sequence(1, [5, 6], max_tokens=30)])
    _run(scheduler, model)
    scheduler.add([_sequence(2, list(range(30)))])
    while scheduler.running < 2 or scheduler._line():
        (plan,) = _run(scheduler, model)
        assert [step.drafts for step in plan.sequences] == [0] * len(plan.sequences)
    (plan,) = _run(scheduler, model)
    assert [step.drafts for step in plan.sequences] == [3, 3]


def test_guesses_take_no_block_that_another_sequence_may_need() -> None:
    scheduler, model = _guessing([6], [False], blocks=4), PlayedModel(4)
    scheduler.add([_sequence(number, [number] * 3, max_tokens=3) for number in (1, 2)])
    _, plan = _run(scheduler, model, 2)
    assert [len(step.blocks) for step in plan.sequences] == [1, 1]
    assert [step.drafts for step in plan.sequences] == [0, 0]


def test_a_stop_token_among_the_guesses_ends_where_it_stands() -> None:
    expected = expected_tokens([5, 6], 6)
    scheduler, model = _guessing([5], [False]), PlayedModel(64)
    params = SamplingParams(max_tokens=9, stop_token_ids=frozenset({expected[3]}))
    sequence = Sequence(1, 1, 0, [5, 6], params, 2)
    scheduler.add([sequence])
    _run(scheduler, model, 2)
    assert sequence.state is SequenceState.FINISHED
    assert sequence.tokens[2:] == expected[:4]


def test_only_what_was_right_is_known_as_a_prefix() -> None:
    scheduler, model = _guessing([6], [False, False, True, False]), PlayedModel(64)
    scheduler.add([_sequence(1, [5, 6], max_tokens=12)])
    _, second = _run(scheduler, model, 2)
    guessed = [5, 6, *expected_tokens([5, 6], 1), *second.sequences[0].drafted, 9]
    again = _sequence(2, guessed, max_tokens=1)
    scheduler.add([again])
    _run(scheduler, model)
    assert again.cached == BLOCK  # of 2 + 1 + 2 tokens that are right


def test_a_guess_that_spoils_the_cache_costs_a_computation_and_no_token() -> None:
    manager = BlockManager(64, BLOCK)
    right = expected_tokens([5, 6], 2)
    wrong = (right[1] + 1) % 256
    scheduler = BatchScheduler(manager, SchedulerLimits(), guesser=Guesses([3], [True]))
    model = PlayedModel(64, frozenset({wrong}))
    sequence = _sequence(1, [5, 6], max_tokens=6)
    scheduler.add([sequence])
    _, spoilt = _run(scheduler, model, 2)
    assert (scheduler.running, scheduler.waiting) == (0, 1)
    (again,) = _run(scheduler, model)
    assert set(spoilt.sequences[0].blocks) <= set(again.clear)
    while scheduler.running:
        (plan,) = _run(scheduler, model)
        assert not any(step.drafts for step in plan.sequences), "it is not guessed for again"
    assert sequence.tokens[2:] == expected_tokens([5, 6], 6)


def test_blocks_that_a_guess_spoilt_are_zeroed_though_the_sequence_ends_in_that_step() -> None:
    first, last = expected_tokens([5, 6], 2)
    wrong = (last + 1) % 256
    manager = BlockManager(64, BLOCK)
    scheduler = BatchScheduler(manager, SchedulerLimits(), guesser=Guesses([2], [True]))
    model = PlayedModel(64, frozenset({wrong}))
    params = SamplingParams(max_tokens=6, stop_token_ids=frozenset({last}))
    sequence = Sequence(1, 1, 0, [5, 6], params, 2)
    scheduler.add([sequence])
    _, spoilt = _run(scheduler, model, 2)
    assert sequence.state is SequenceState.FINISHED
    assert sequence.tokens == [5, 6, first, last]
    scheduler.add([_sequence(2, [7])])
    (plan,) = _run(scheduler, model)
    assert set(spoilt.sequences[0].blocks) <= set(plan.clear)


def test_blocks_that_a_step_spoilt_after_its_sequence_was_cancelled_are_zeroed() -> None:
    """Even those that are taken again at once."""
    scheduler = BatchScheduler(BlockManager(2, BLOCK), SchedulerLimits())
    sequence = _sequence(1, [5, 6, 7, 8, 9])
    scheduler.add([sequence])
    plan = scheduler.schedule()
    assert plan is not None
    scheduler.finish(sequence)
    assert scheduler.commit(plan, StepResult(plan.step, [SampledToken(1, None)])) == []
    scheduler.add([_sequence(2, [7], max_tokens=2)])
    after, last = _run(scheduler, PlayedModel(2), 2)
    assert sorted(plan.sequences[0].blocks) == after.clear
    assert not last.clear
