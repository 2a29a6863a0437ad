"""A stage in PyTorch: a plan in, tokens out, whatever the shard."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
from tandem.engine.backends.pytorch.layers import batch
from tandem.engine.core.sampling import LogitBias, pack
from tandem.engine.core.step import SampledToken, SampleSpec, SequenceStep
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
    stage._cache.layers[0].values.numbers[1, 3] = math.nan  # type: ignore[attr-defined]
    decode = SequenceStep(7, [8], 3, [1], SampleSpec(4, temperature=0.0))
    stage._cache.layers[1].keys.numbers[1] = math.nan  # type: ignore[attr-defined]
    assert run(stage, StepPlan(2, [decode])).tokens[0].token is None
    assert run(stage, StepPlan(3, [PROMPT], clear=[1])).tokens == clean.tokens


def test_progress_is_told_layer_by_layer(setup: ModelSetup) -> None:
    told: list[tuple[int, int]] = []
    shard = whole(setup.config)
    setup.backend.load_stage(setup, shard, Solo(), 4, lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]


SPECS = [
    GREEDY,
    SampleSpec(3, seed=4, temperature=1.2, top_p=0.8, logprobs=2),
    SampleSpec(3, choice=2, seed=5, temperature=0.7, repetition_penalty=1.4, prompt=pack([5, 6])),
    SampleSpec(
        3,
        temperature=0.0,
        presence_penalty=0.9,
        frequency_penalty=0.4,
        logit_bias=LogitBias.of({9: 3.0, 70: 2.0}),
        logprobs=1,
    ),
]


def answer(stage: Stage[torch.Tensor], spec: SampleSpec, count: int) -> list[SampledToken]:
    """So many tokens after the prompt 5, 6, 7, one a step."""
    tokens = [5, 6, 7]
    found: list[SampledToken] = []
    for start in (0, *range(3, 2 + count)):
        own = spec.after(tokens[3:])
        plan = StepPlan(1, [SequenceStep(7, tokens[start:], start, [3, 0], own)])
        (one,) = run(stage, plan).tokens
        assert one.token is not None
        found.append(one)
        tokens.append(one.token)
    return found


@pytest.fixture(params=[0, 1024])
def paged_or_not(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, setup: ModelSetup
) -> Stage[torch.Tensor]:
    monkeypatch.setattr(batch, "_PAGED_THREADS", request.param)
    return setup.backend.load_stage(setup, whole(setup.config), Solo(), 4)


@pytest.mark.parametrize("spec", SPECS)
@given(wrong=st.lists(st.booleans(), max_size=6), beside=st.booleans())
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_guessed_the_tokens_are_those_that_come_one_by_one(
    setup: ModelSetup,
    paged_or_not: Stage[torch.Tensor],
    spec: SampleSpec,
    wrong: list[bool],
    beside: bool,
) -> None:
    """With their log probabilities, in the same float32."""
    stage = paged_or_not
    expected = answer(stage, spec, len(wrong) + 2)
    tokens = [one.token for one in expected if one.token is not None]
    size = setup.config.vocab_size
    drafts = [(token + off) % size for token, off in zip(tokens[1:], wrong, strict=False)]
    run(stage, StepPlan(1, [SequenceStep(7, [5, 6, 7], 0, [3, 0], spec)]))
    own = spec.after(tokens[:1])
    step = SequenceStep(7, [tokens[0], *drafts], 3, [3, 0], own, drafts=len(drafts))
    neighbour = [SequenceStep(8, [11], 0, [2], GREEDY)] if beside else []
    found = [
        one
        for one in run(stage, StepPlan(2, [*neighbour, step])).tokens
        if one.sequence_id == step.sequence_id
    ]
    right = wrong.index(True) if True in wrong else len(wrong)
    assert [one.token for one in found] == tokens[1 : right + 2]
    for one, plain in zip(found, expected[1:], strict=False):
        assert [token for token, _ in one.top] == [token for token, _ in plain.top]
        if plain.logprob is not None:
            assert one.logprob == pytest.approx(plain.logprob, abs=1e-4)


def test_what_is_not_finite_is_told_behind_the_tokens_that_count() -> None:
    step = SequenceStep(7, [1, 2, 3, 4], 0, [0], GREEDY, drafts=3)
    assert [spec.position for spec in step.samples()] == [3, 4, 5, 6]

    def verified(*tokens: int | None) -> list[int | None]:
        found = step.verified([SampledToken(7, token) for token in tokens])
        return [one.token for one in found]

    assert verified(2, 3, 4, 5) == [2, 3, 4, 5]
    assert verified(2, 9, 4, 5) == [2, 9]
    assert verified(9, 3, 4, 5) == [9]
    assert verified(2, 9, None, None) == [2, 9, None]
    assert verified(2, None, None, None) == [2, None]
    assert verified(None, 3, 4, 5) == [None]
