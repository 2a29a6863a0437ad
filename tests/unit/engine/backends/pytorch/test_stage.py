"""A stage in PyTorch: a plan in, tokens out, whatever the shard."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tandem.engine import (
    EngineOptions,
    ModelSetup,
    Solo,
    Span,
    Stage,
    StepPlan,
    StepResult,
    pipeline_stage,
    prepare,
    whole,
)
from tandem.engine.core.step import SampleSpec, SequenceStep
from tandem.engine.random_checkpoint import create_checkpoint

GREEDY = SampleSpec(3, temperature=0.0)
PROMPT = SequenceStep(7, [5, 6, 7], 0, [1], GREEDY)
CHUNK = SequenceStep(8, [9, 10], 0, [2], None)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> ModelSetup:
    directory: Path = tmp_path_factory.mktemp("stage") / "m"
    create_checkpoint(directory, family="qwen3", seed=2, dtype="float32")
    return prepare(EngineOptions(directory=directory, dtype="float32", device="cpu"))


@pytest.fixture
def stage(setup: ModelSetup) -> Stage[torch.Tensor]:
    return setup.backend.load_stage(setup, whole(setup.config), Solo(), 4)


def run(stage: Stage[torch.Tensor], plan: StepPlan) -> StepResult:
    begun = stage.begin(plan)
    return begun.result(begun.logits(begun.forward()))


def test_each_sequence_that_samples_gets_a_token(stage: Stage[torch.Tensor]) -> None:
    result = run(stage, StepPlan(4, [CHUNK, PROMPT]))
    assert result.step == 4
    assert [token.sequence_id for token in result.tokens] == [7]
    assert result == run(stage, StepPlan(4, [PROMPT]))


def test_a_step_that_samples_nothing_computes_no_logits(stage: Stage[torch.Tensor]) -> None:
    begun = stage.begin(StepPlan(1, [CHUNK]))
    states = begun.forward()
    assert (begun.rows, states.shape) == (2, (2, 64))
    assert begun.logits(states) is None
    assert begun.result(None) == StepResult(1, [])


def test_stages_of_a_pipeline_give_what_the_whole_gives(
    setup: ModelSetup, stage: Stage[torch.Tensor]
) -> None:
    plan = StepPlan(1, [PROMPT])
    first, last = (
        setup.backend.load_stage(setup, pipeline_stage(setup.config, span), Solo(), 4)
        for span in (Span(0, 1), Span(1, 2))
    )
    begun = last.begin(plan)
    states = begun.forward(first.begin(plan).forward())
    assert begun.result(begun.logits(states)) == run(stage, plan)


def test_states_like_have_the_shape_of_states(stage: Stage[torch.Tensor]) -> None:
    states = stage.begin(StepPlan(1, [PROMPT])).forward()
    like = stage.states_like(3)
    assert (like.shape, like.dtype, like.device) == (states.shape, states.dtype, states.device)


def test_blocks_are_cleared_before_a_step(stage: Stage[torch.Tensor]) -> None:
    clean = run(stage, StepPlan(1, [PROMPT]))
    stage._cache.layers[0].values[1, 3] = math.nan  # type: ignore[attr-defined]
    decode = SequenceStep(7, [8], 3, [1], SampleSpec(4, temperature=0.0))
    stage._cache.layers[1].keys[1] = math.nan  # type: ignore[attr-defined]
    assert run(stage, StepPlan(2, [decode])).tokens[0].token is None
    assert run(stage, StepPlan(3, [PROMPT], clear=[1])).tokens == clean.tokens


def test_progress_is_told_layer_by_layer(setup: ModelSetup) -> None:
    told: list[tuple[int, int]] = []
    shard = whole(setup.config)
    setup.backend.load_stage(setup, shard, Solo(), 4, lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]
