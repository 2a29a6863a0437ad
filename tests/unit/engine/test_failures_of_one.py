"""What one request does to the engine ends that request: the others' tokens come as before."""

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
    Prefilling,
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
from tandem.errors import ExecutorFailed, InternalError, InvalidRequest

BAD = 77
TIMEOUT_S = 60.0


class Executor:
    """Every sequence's next token is its last one again; it can forget to answer."""

    stages = depth = 1

    def __init__(self) -> None:
        self.silent = False

    def submit(self, plan: StepPlan) -> None:
        self._plan = plan

    def collect(self) -> StepResult:
        if self.silent:
            return StepResult(self._plan.step, [])
        steps = [step for step in self._plan.sequences if step.sample is not None]
        tokens = [SampledToken(step.sequence_id, step.tokens[-1]) for step in steps]
        return StepResult(self._plan.step, tokens)

    def close(self) -> None:
        """Nothing is held."""


class Breaking(Tokenizer):
    """Stumbles over one token, as a tokenizer with a defect does."""

    def decode(self, token_ids: Sequence[int]) -> str:
        if BAD in token_ids:
            raise OverflowError("out of range")
        return super().decode(token_ids)


Started = tuple[Engine, Executor, queue.Queue[EngineEvent]]


@pytest.fixture
def started() -> Iterator[Started]:
    events: queue.Queue[EngineEvent] = queue.Queue()

    def deliver(batch: Sequence[EngineEvent]) -> None:
        for event in batch:
            events.put(event)

    executor = Executor()
    engine = Engine(
        executor,
        Breaking(resolve_model(DEMO_MODEL)),
        BlockManager(16, 16),
        limits=EngineLimits(
            context_length=128, kv_tokens=128, vocabulary_size=300, eos_token_ids=frozenset()
        ),
        scheduling=SchedulerLimits(),
        on_events=deliver,
    )
    yield engine, executor, events
    assert engine.close()


def ask(
    started: Started,
    request_id: str,
    prompt: list[int],
    *,
    samples: int = 1,
    produced: list[list[int] | None] | None = None,
) -> None:
    started[0].submit(
        GenerationRequest(
            request_id=request_id,
            prompts=[prompt],
            samples=samples,
            params=SamplingParams(max_tokens=20),
            stop=[],
            ignore_eos=True,
            deadline=time.monotonic() + TIMEOUT_S,
            produced=produced or [],
        )
    )


def ends(started: Started, wanted: int) -> dict[str, Aborted | Completed]:
    found: dict[str, Aborted | Completed] = {}
    while len(found) < wanted:
        event = started[2].get(timeout=TIMEOUT_S)
        if not isinstance(event, Progress | Prefilling):
            found[event.request_id] = event
    return found


def test_tokens_that_cannot_be_decoded_end_their_request_alone(started: Started) -> None:
    ask(started, "good", [40])
    ask(started, "bad", [BAD])
    found = ends(started, 2)
    assert isinstance(found["good"], Completed)
    assert isinstance(bad := found["bad"], Aborted)
    assert isinstance(bad.error, InternalError)
    stats = started[0].stats()
    assert (stats.running, stats.free_blocks) == (0, stats.total_blocks)


def test_a_request_that_cannot_be_begun_ends_alone(started: Started) -> None:
    """What it has produced elsewhere is decoded when it is taken from the inbox."""
    ask(started, "good", [40])
    ask(started, "bad", [40], produced=[[BAD, 41]])
    found = ends(started, 2)
    assert isinstance(found["good"], Completed)
    assert isinstance(bad := found["bad"], Aborted)
    assert isinstance(bad.error, InternalError)


def test_a_step_whose_result_lacks_a_sequence_ends_the_steps_requests(started: Started) -> None:
    started[1].silent = True
    ask(started, "lost", [40])
    assert isinstance(lost := ends(started, 1)["lost"], Aborted)
    assert isinstance(lost.error, ExecutorFailed)
    started[1].silent = False
    ask(started, "next", [40])
    assert isinstance(ends(started, 1)["next"], Completed)


def test_more_choices_than_may_ever_wait_are_refused_before_any_is_made(started: Started) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(started, "many", [40], samples=257)
    assert caught.value.param == "n"
    assert "256" in caught.value.message
