"""A long prompt shows that it is being computed: every few seconds, until its first token."""

from __future__ import annotations

import itertools
import queue
import time
from collections.abc import Sequence

from tandem.engine import (
    DEMO_MODEL,
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


class Executor:
    """Every sequence's next token is its last one again."""

    stages = depth = 1

    def submit(self, plan: StepPlan) -> None:
        self._plan = plan

    def collect(self) -> StepResult:
        steps = [step for step in self._plan.sequences if step.sample is not None]
        tokens = [SampledToken(step.sequence_id, step.tokens[-1]) for step in steps]
        return StepResult(self._plan.step, tokens)

    def close(self) -> None:
        """Nothing is held."""


def test_what_is_computed_of_a_prompt_is_told_until_its_first_token() -> None:
    events: queue.Queue[EngineEvent] = queue.Queue()

    def deliver(batch: Sequence[EngineEvent]) -> None:
        for event in batch:
            events.put(event)

    ticks = itertools.count()
    engine = Engine(
        Executor(),
        Tokenizer(resolve_model(DEMO_MODEL)),
        BlockManager(16, 16),
        limits=EngineLimits(
            context_length=128, kv_tokens=128, vocabulary_size=300, eos_token_ids=frozenset()
        ),
        scheduling=SchedulerLimits(step_tokens=16),
        on_events=deliver,
        clock=lambda: 3.0 * next(ticks),  # each look at it is three seconds later
    )
    engine.submit(
        GenerationRequest(
            request_id="r",
            prompts=[list(range(10, 90))],
            samples=1,
            params=SamplingParams(max_tokens=3),
            stop=[],
            ignore_eos=True,
            deadline=1e9,
        )
    )
    told: list[EngineEvent] = []
    until = time.monotonic() + 60.0
    while not (told and isinstance(told[-1], Completed)):
        told.append(events.get(timeout=max(0.1, until - time.monotonic())))
    assert engine.close()
    prefilled = [event.tokens for event in told if isinstance(event, Prefilling)]
    assert prefilled == sorted(set(prefilled))
    assert len(prefilled) >= 3
    assert set(prefilled) <= {16, 32, 48, 64}
    kinds = [type(event) for event in told]
    assert kinds == [Prefilling] * len(prefilled) + [Progress] * 3 + [Completed]
