"""A backend is added by a row: here one in plain Python, whose tensors are lists."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tandem.engine import (
    DEMO_MODEL,
    Backend,
    Communicator,
    Completed,
    EngineEvent,
    EngineOptions,
    GenerationRequest,
    LoadedModel,
    ModelSetup,
    Prefilling,
    Progress,
    SamplingParams,
    Shard,
    StepPlan,
    StepResult,
    TensorOps,
    backends,
    load_engine,
    resolve_model,
)
from tandem.engine.backends import DeviceFacts
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor
from tandem.engine.core.step import SampledToken

Rows = list[int]


class CountingRun:
    """The token after each token is the next number."""

    def __init__(self, plan: StepPlan) -> None:
        self._plan = plan
        self.rows = sum(len(step.tokens) for step in plan.sequences)

    def forward(self, states: Rows | None = None) -> Rows:
        assert states is None, "this stage embeds"
        return [step.tokens[-1] for step in self._plan.sequences if step.sample is not None]

    def logits(self, states: Rows) -> Rows | None:
        return [state + 1 for state in states]

    def result(self, logits: Rows | None) -> StepResult:
        asked = [step.sequence_id for step in self._plan.sequences if step.sample is not None]
        tokens = map(SampledToken, asked, logits or ())
        return StepResult(self._plan.step, list(tokens))


class CountingStage:
    def begin(self, plan: StepPlan) -> CountingRun:
        return CountingRun(plan)

    def states_like(self, rows: int) -> Rows:
        return [0] * rows


class CountingBackend:
    """Of an abacus."""

    @property
    def tensors(self) -> TensorOps[Rows]:
        raise AssertionError("nothing goes over a link here")

    def devices(self) -> list[str]:
        return ["abacus", "cpu"]

    def describe(self, device: str) -> DeviceFacts:
        return DeviceFacts(device, 100)

    def compute_dtype(self, stored: str, device: str) -> str:  # noqa: ARG002
        return stored

    def use_threads(self, count: int) -> None:
        pass

    def free_bytes(self, device: str) -> int:  # noqa: ARG002
        return 10**8

    def keeps(self, weight: QuantizedTensor, device: str) -> bool:  # noqa: ARG002
        return False

    def decode_bytes_per_s(self, setup: ModelSetup) -> float:  # noqa: ARG002
        return 1.0

    def load_stage(
        self,
        setup: ModelSetup,
        shard: Shard,
        group: Communicator[Rows],  # noqa: ARG002
        blocks: int,  # noqa: ARG002
        on_progress: Callable[[int, int], None] | None = None,
    ) -> CountingStage:
        assert setup.device == "abacus"
        if on_progress is not None:
            on_progress(1, len(shard.layers))
        return CountingStage()


@pytest.fixture
def events() -> queue.Queue[EngineEvent]:
    return queue.Queue()


@pytest.fixture
def loaded(
    monkeypatch: pytest.MonkeyPatch, events: queue.Queue[EngineEvent]
) -> Iterator[LoadedModel]:
    def counting() -> Backend[Any]:
        return CountingBackend()

    def deliver(batch: Sequence[EngineEvent]) -> None:
        for event in batch:
            events.put(event)

    monkeypatch.setitem(backends.BACKENDS, "counting", counting)
    options = EngineOptions(directory=resolve_model(DEMO_MODEL), backend="counting")
    loaded = load_engine(options, deliver)
    yield loaded
    assert loaded.engine.close()


def test_an_engine_runs_on_it(loaded: LoadedModel, events: queue.Queue[EngineEvent]) -> None:
    loaded.engine.warm_up()
    loaded.engine.submit(
        GenerationRequest(
            request_id="r",
            prompts=[[5, 6, 7], [40]],
            samples=1,
            params=SamplingParams(max_tokens=4),
            stop=[],
            ignore_eos=True,
            deadline=time.monotonic() + 60.0,
        )
    )
    tokens: dict[int, list[int]] = {0: [], 1: []}
    while not isinstance(event := events.get(timeout=60.0), Completed):
        if isinstance(event, Prefilling):
            continue
        assert isinstance(event, Progress)
        for delta in event.deltas:
            tokens[delta.index] += delta.token_ids
    assert tokens == {0: [8, 9, 10, 11], 1: [41, 42, 43, 44]}
