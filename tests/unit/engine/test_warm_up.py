"""An engine warms up by a step of its own, of which nobody hears."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator, Sequence

import pytest

from tandem.engine import (
    DEMO_MODEL,
    Aborted,
    Completed,
    Engine,
    EngineEvent,
    EngineLimits,
    GenerationRequest,
    Progress,
    SamplingParams,
    SchedulerLimits,
    StepPlan,
    StepResult,
    Tokenizer,
    resolve_model,
)
from tandem.engine.core.block_manager import BlockManager
from tandem.engine.core.step import SampledToken

KV_TOKENS = 64


class PlayedExecutor:
    """Answers every sequence that samples with the same token; fails on the steps it is told to."""

    stages = depth = 1

    def __init__(self) -> None:
        self.plans: list[StepPlan] = []
        self.fails_on: set[int] = set()
        self.closed = False

    def submit(self, plan: StepPlan) -> None:
        self.plans.append(plan)
        if plan.step in self.fails_on:
            raise RuntimeError("no such luck")

    def collect(self) -> StepResult:
        plan = self.plans[-1]
        asked = [step for step in plan.sequences if step.sample is not None]
        return StepResult(plan.step, [SampledToken(step.sequence_id, 40) for step in asked])

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def executor() -> PlayedExecutor:
    return PlayedExecutor()


@pytest.fixture
def events() -> queue.Queue[EngineEvent]:
    return queue.Queue()


def started(
    executor: PlayedExecutor,
    events: queue.Queue[EngineEvent],
    *,
    context_length: int = KV_TOKENS,
    step_tokens: int = 256,
) -> Engine:
    def deliver(batch: Sequence[EngineEvent]) -> None:
        for event in batch:
            events.put(event)

    return Engine(
        executor,
        Tokenizer(resolve_model(DEMO_MODEL)),
        BlockManager(KV_TOKENS // 16, 16),
        limits=EngineLimits(
            context_length=context_length,
            kv_tokens=KV_TOKENS,
            vocabulary_size=300,
            eos_token_ids=frozenset(),
        ),
        scheduling=SchedulerLimits(step_tokens=step_tokens),
        on_events=deliver,
    )


@pytest.fixture
def engine(executor: PlayedExecutor, events: queue.Queue[EngineEvent]) -> Iterator[Engine]:
    engine = started(executor, events)
    yield engine
    assert engine.close()
    assert executor.closed


def ask(engine: Engine, request_id: str) -> None:
    engine.submit(
        GenerationRequest(
            request_id=request_id,
            prompts=[[7, 8, 9]],
            samples=1,
            params=SamplingParams(max_tokens=2),
            stop=[],
            ignore_eos=True,
            deadline=time.monotonic() + 60.0,
        )
    )


def test_a_prompt_is_computed_and_no_event_comes_of_it(
    engine: Engine, executor: PlayedExecutor, events: queue.Queue[EngineEvent]
) -> None:
    engine.warm_up()
    assert [len(step.tokens) for plan in executor.plans for step in plan.sequences] == [32]
    assert events.empty()
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.steps) == (0, 0, 1)
    assert stats.free_blocks == stats.total_blocks


def test_steps_are_numbered_on_for_the_ranks_that_count_them(
    engine: Engine, executor: PlayedExecutor, events: queue.Queue[EngineEvent]
) -> None:
    engine.warm_up()
    ask(engine, "first")
    found = [events.get(timeout=60.0) for _ in range(3)]
    assert [type(event) for event in found] == [Progress, Progress, Completed]
    assert [plan.step for plan in executor.plans] == [1, 2, 3]


def test_a_failure_is_left_to_the_first_request(
    engine: Engine, executor: PlayedExecutor, events: queue.Queue[EngineEvent]
) -> None:
    executor.fails_on = {1, 2}
    engine.warm_up()
    assert events.empty()
    stats = engine.stats()
    assert (stats.running, stats.free_blocks) == (0, stats.total_blocks)
    ask(engine, "first")
    assert isinstance(events.get(timeout=60.0), Aborted)
    ask(engine, "second")
    assert isinstance(events.get(timeout=60.0), Progress)


def test_a_small_step_takes_several(
    executor: PlayedExecutor, events: queue.Queue[EngineEvent]
) -> None:
    engine = started(executor, events, step_tokens=20)
    engine.warm_up()
    assert engine.close()
    assert [len(step.tokens) for plan in executor.plans for step in plan.sequences] == [20, 12]


def test_an_engine_without_room_or_time_is_not_warmed_up(
    executor: PlayedExecutor, events: queue.Queue[EngineEvent]
) -> None:
    engine = started(executor, events, context_length=1)
    engine.warm_up()
    assert engine.close()
    engine.warm_up()
    assert executor.plans == []
