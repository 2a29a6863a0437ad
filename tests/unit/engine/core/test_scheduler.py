"""The scheduler and its blocks, as rules: whatever comes, nothing is lost, doubled or leaked."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.engines.played_model import BLOCK, Guesses, PlayedModel, expected_tokens

from tandem.engine import SamplingParams, SchedulerLimits
from tandem.engine.core.block_manager import BlockManager
from tandem.engine.core.scheduler import BatchScheduler, Outcome
from tandem.engine.core.sequence import Sequence, SequenceState
from tandem.engine.core.step import SampledToken, StepPlan, StepResult
from tandem.errors import Overloaded

Request = tuple[list[int], int]
requests = st.lists(
    st.tuples(st.lists(st.integers(0, 2), min_size=1, max_size=30), st.integers(1, 12)),
    min_size=1,
    max_size=10,
)


@settings(max_examples=200, deadline=None)
@given(
    requests=requests,
    blocks=st.integers(11, 40),
    limits=st.builds(
        SchedulerLimits, max_sequences=st.integers(1, 6), step_tokens=st.integers(1, 40)
    ),
    depth=st.integers(1, 3),
    extra=st.integers(0, 2),
    cancel_at=st.dictionaries(st.integers(0, 9), st.integers(0, 30), max_size=4),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
    wrong=st.lists(st.booleans(), min_size=1, max_size=7),
    spoils=st.frozensets(st.integers(0, 255), max_size=128),
)
def test_every_sequence_gets_its_tokens_and_gives_its_blocks_back(
    requests: list[Request],
    blocks: int,
    limits: SchedulerLimits,
    depth: int,
    extra: int,
    cancel_at: dict[int, int],
    lengths: list[int],
    wrong: list[bool],
    spoils: frozenset[int],
) -> None:
    """With guesses, right or wrong, as without."""
    manager = BlockManager(blocks, BLOCK)
    guesses = Guesses(lengths, wrong)
    scheduler = BatchScheduler(manager, limits, stages=depth, guesser=guesses)
    spoils -= {token for prompt, count in requests for token in expected_tokens(prompt, count)}
    model = PlayedModel(blocks, spoils)
    sequences = [
        Sequence(i, i, 0, list(prompt), SamplingParams(max_tokens=count), len(prompt))
        for i, (prompt, count) in enumerate(requests)
    ]
    scheduler.add(sequences)
    under_way: list[tuple[StepPlan, StepResult]] = []
    for turn in range(2000):
        for index, moment in cancel_at.items():
            if moment == turn and index < len(sequences):
                scheduler.finish(sequences[index])
        while len(under_way) < depth + extra and (plan := scheduler.schedule()) is not None:
            assert sum(len(step.tokens) for step in plan.sequences) <= max(
                limits.step_tokens, limits.max_sequences
            )
            assert len({step.sequence_id for step in plan.sequences}) == len(plan.sequences)
            under_way.append((plan, model.run(plan)))
        if not under_way:
            break
        scheduler.commit(*under_way.pop(0))
        manager.check([s for s in sequences if s.blocks])
    assert all(sequence.state is SequenceState.FINISHED for sequence in sequences)
    assert manager.free == blocks
    assert sorted(guesses.forgotten) == list(range(len(sequences)))
    assert scheduler.guessed_right <= scheduler.guessed
    for index, (sequence, (prompt, count)) in enumerate(zip(sequences, requests, strict=True)):
        output = sequence.tokens[len(prompt) :]
        if index in cancel_at:
            assert output == expected_tokens(prompt, count)[: len(output)]
        else:
            assert output == expected_tokens(prompt, count)


def _scheduler(blocks: int = 64, **limits: int) -> BatchScheduler:
    return BatchScheduler(BlockManager(blocks, BLOCK), SchedulerLimits(**limits))


def _sequence(
    number: int, prompt: list[int], max_tokens: int = 5, group: int | None = None
) -> Sequence:
    params = SamplingParams(max_tokens=max_tokens)
    return Sequence(number, number if group is None else group, 0, prompt, params, len(prompt))


def _step(scheduler: BatchScheduler, token: int = 1) -> StepPlan:
    plan = scheduler.schedule()
    assert plan is not None
    sampled = [
        SampledToken(step.sequence_id, token) for step in plan.sequences if step.sample is not None
    ]
    scheduler.commit(plan, StepResult(plan.step, sampled))
    return plan


def test_a_long_prompt_does_not_stall_those_that_decode() -> None:
    scheduler = _scheduler(step_tokens=8)
    scheduler.add([_sequence(1, [1, 2], max_tokens=20)])
    _step(scheduler)
    scheduler.add([_sequence(2, list(range(40)))])
    for _ in range(5):
        plan = _step(scheduler)
        counts = {step.sequence_id: len(step.tokens) for step in plan.sequences}
        assert counts == {1: 1, 2: 7}


def _counts(plan: StepPlan) -> dict[int, int]:
    """Tokens of the step by sequence."""
    return {step.sequence_id: len(step.tokens) for step in plan.sequences}


def test_a_short_prompt_waits_for_no_long_one() -> None:
    scheduler = _scheduler(blocks=200, step_tokens=32)
    scheduler.add(
        [_sequence(number, list(range(100 * number, 100 * number + 90))) for number in (1, 2)]
    )
    _step(scheduler)
    scheduler.add([_sequence(3, [7] * 10)])
    plan = _step(scheduler)
    assert _counts(plan) == {3: 10, 1: 22}
    assert plan.sequences[0].sample is not None


def test_short_prompts_leave_half_of_a_step_to_who_came_first() -> None:
    scheduler = _scheduler(blocks=200, step_tokens=32)
    scheduler.add([_sequence(1, list(range(300)))])
    _step(scheduler)
    scheduler.add([_sequence(10 + number, [number] * 6) for number in range(20)])
    plans = [_counts(_step(scheduler)) for _ in range(6)]
    ahead = [plan for plan in plans if 1 not in plan]
    assert len(ahead) <= 1, "a step of their own comes once in a while"
    assert all(plan[1] >= 16 - 2 * 6 for plan in plans if plan not in ahead)  # decodes go first


def _decoding(scheduler: BatchScheduler, count: int) -> None:
    """So many sequences decode then; their prompts had a step of their own long ago."""
    scheduler.add([_sequence(number, [number, 0], max_tokens=90) for number in range(count)])
    for _ in range(12):
        _step(scheduler)


def test_a_prompt_shorter_than_the_batch_goes_ahead_of_it() -> None:
    scheduler = _scheduler(blocks=400)
    _decoding(scheduler, 10)
    scheduler.add([_sequence(50, [50] * 9)])
    plan = _step(scheduler)
    assert _counts(plan) == {50: 9}
    assert plan.sequences[0].sample is not None
    assert _counts(_step(scheduler)) == dict.fromkeys([*range(10), 50], 1)


def test_a_prompt_longer_than_the_batch_is_computed_beside_it() -> None:
    scheduler = _scheduler(blocks=400)
    _decoding(scheduler, 10)
    scheduler.add([_sequence(50, [50] * 11)])
    assert _counts(_step(scheduler)) == dict.fromkeys(range(10), 1) | {50: 11}


def test_what_is_cached_of_a_prompt_does_not_make_it_long() -> None:
    scheduler = _scheduler(blocks=400)
    prompt = list(range(100, 140))
    scheduler.add([_sequence(49, list(prompt), max_tokens=1)])
    _step(scheduler)
    _decoding(scheduler, 10)
    scheduler.add([_sequence(50, [*prompt, 1])])
    assert _counts(_step(scheduler)) == {50: 1}


def test_those_that_decode_lose_a_step_to_newcomers_once_in_nine() -> None:
    scheduler = _scheduler(blocks=400)
    _decoding(scheduler, 10)
    ahead = 0
    for number in range(50, 86):
        scheduler.add([_sequence(number, [number] * 3, max_tokens=2)])
        ahead += 0 not in _counts(_step(scheduler))
    assert ahead == 4


def test_who_waits_for_room_is_overtaken_by_no_more_than_its_own_size() -> None:
    scheduler = _scheduler(blocks=16, step_tokens=32)
    scheduler.add([_sequence(1, list(range(24)), max_tokens=40)])
    _step(scheduler)
    large = _sequence(2, list(range(100, 140)), max_tokens=1)
    scheduler.add([large])
    overtaking = 0
    for number in range(100):
        short = _sequence(10 + number, [number] * 8, max_tokens=1)
        scheduler.add([short])
        began = short.sequence_id in _counts(_step(scheduler))
        overtaking += began and large.state is SequenceState.WAITING
    assert overtaking == 5
    assert large.state is SequenceState.FINISHED


def test_a_known_prefix_is_not_computed_again() -> None:
    scheduler = _scheduler()
    prompt = list(range(10))
    scheduler.add([_sequence(1, list(prompt), max_tokens=1)])
    _step(scheduler)
    again = _sequence(2, [*prompt, 99])
    scheduler.add([again])
    plan = _step(scheduler)
    assert again.cached == 8
    assert plan.sequences[0].start == 8
    assert plan.sequences[0].tokens == [8, 9, 99]


def test_samples_of_one_prompt_wait_for_the_first_and_share_its_blocks() -> None:
    scheduler = _scheduler(step_tokens=100)
    prompt = list(range(20))
    samples = [_sequence(i, list(prompt), group=7) for i in range(3)]
    scheduler.add(samples)
    first = _step(scheduler)
    assert [step.sequence_id for step in first.sequences] == [0]
    second = _step(scheduler)
    assert {step.sequence_id: len(step.tokens) for step in second.sequences} == {0: 1, 1: 4, 2: 4}
    assert samples[0].blocks[:4] == samples[1].blocks[:4] == samples[2].blocks[:4]


def test_more_than_may_wait_are_refused_all_or_none() -> None:
    scheduler = _scheduler(max_waiting=3)
    scheduler.add([_sequence(1, [1]), _sequence(2, [1])])
    with pytest.raises(Overloaded):
        scheduler.add([_sequence(3, [1]), _sequence(4, [1])])
    assert scheduler.waiting == 2


def test_logits_that_are_not_finite_poison_their_blocks() -> None:
    manager = BlockManager(8, BLOCK)
    scheduler = BatchScheduler(manager, SchedulerLimits())
    scheduler.add([_sequence(1, list(range(6)))])
    plan = scheduler.schedule()
    assert plan is not None
    (sampled,) = scheduler.commit(plan, StepResult(plan.step, [SampledToken(1, None)]))
    assert sampled.outcome is Outcome.NOT_SAMPLED
    assert manager.free == 8
    scheduler.add([_sequence(2, list(range(6)))])
    following = scheduler.schedule()
    assert following is not None
    assert following.sequences[0].start == 0, "nothing of the poisoned prefix is reused"
    assert set(plan.sequences[0].blocks) <= {*following.clear, *following.sequences[0].blocks}


def test_two_micro_batches_are_under_way_as_soon_as_two_sequences_decode() -> None:
    scheduler = BatchScheduler(BlockManager(64, BLOCK), SchedulerLimits(), stages=2)
    scheduler.add([_sequence(1, [1]), _sequence(2, [2])])
    first, second = scheduler.schedule(), scheduler.schedule()
    assert first is not None
    plans = [first] if second is None else [first, second]
    for plan in plans:
        tokens = [SampledToken(step.sequence_id, 1) for step in plan.sequences]
        scheduler.commit(plan, StepResult(plan.step, tokens))
    third, fourth = scheduler.schedule(), scheduler.schedule()
    assert third is not None
    assert fourth is not None
    assert [len(plan.sequences) for plan in (third, fourth)] == [1, 1]


def test_stragglers_join_the_next_micro_batch_instead_of_making_another() -> None:
    scheduler = BatchScheduler(BlockManager(64, BLOCK), SchedulerLimits(step_tokens=4), stages=2)
    scheduler.add([_sequence(number, [1, 2, 3, 4], max_tokens=50) for number in range(8)])
    under_way: list[StepPlan] = []
    sizes: list[int] = []
    for _ in range(60):
        while len(under_way) < 3 and (plan := scheduler.schedule()) is not None:
            under_way.append(plan)
        decoding = [p for p in under_way if any(len(step.tokens) == 1 for step in p.sequences)]
        assert len(decoding) <= 2
        plan = under_way.pop(0)
        sizes.append(len(plan.sequences))
        tokens = [SampledToken(s.sequence_id, 1) for s in plan.sequences if s.sample]
        scheduler.commit(plan, StepResult(plan.step, tokens))
    assert sizes[-10:] == [4] * 10
