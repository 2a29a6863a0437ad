"""A parameter of sampling is declared once and reaches the sampler by itself."""

from __future__ import annotations

import msgspec
import pytest

from tandem.engine import SamplingOptions, SamplingParams, SchedulerLimits
from tandem.engine.core.block_manager import BlockManager
from tandem.engine.core.sampling import LogitBias, pack, unpack
from tandem.engine.core.scheduler import BatchScheduler
from tandem.engine.core.sequence import Sequence
from tandem.engine.core.step import SampleSpec
from tandem.errors import InvalidRequest

#: A value for each, other than its default.
VALUES = {
    "seed": 7,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 5,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
    "presence_penalty": 0.2,
    "frequency_penalty": 0.3,
    "logit_bias": LogitBias.of({3: -1.0}),
    "logprobs": 2,
}


def planned(params: SamplingParams) -> SampleSpec:
    scheduler = BatchScheduler(BlockManager(4, 4), SchedulerLimits())
    scheduler.add([Sequence(1, 1, 2, [5, 6, 7], params, prompt_length=2)])
    plan = scheduler.schedule()
    assert plan is not None
    spec = plan.sequences[0].sample
    assert spec is not None
    return spec


def test_every_option_of_a_request_is_in_its_steps() -> None:
    assert set(VALUES) == set(SamplingOptions.__struct_fields__)
    spec = planned(SamplingParams(max_tokens=9, **VALUES))  # type: ignore[arg-type]
    assert {name: getattr(spec, name) for name in VALUES} == VALUES
    assert (spec.position, spec.choice, spec.prompt, spec.output) == (3, 2, pack([5, 6]), pack([7]))


def test_a_plain_step_says_what_is_its_own_only() -> None:
    spec = planned(SamplingParams(max_tokens=9))
    assert msgspec.to_builtins(spec) == {"position": 3, "choice": 2}


def test_a_step_is_flat_on_a_link() -> None:
    spec = planned(SamplingParams(max_tokens=9, **VALUES))  # type: ignore[arg-type]
    own = {"position": 3, "choice": 2, "prompt": pack([5, 6]), "output": pack([7])}
    bias = LogitBias.of({3: -1.0})
    assert bias is not None
    flat = VALUES | {"logit_bias": [bias.tokens, bias.values]}
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(spec)) == own | flat
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(spec), type=SampleSpec) == spec


def test_what_adjusts_logits_and_what_counts_tokens() -> None:
    plain = SamplingOptions(temperature=0.5, top_p=0.5, min_p=0.1, top_k=3)
    assert not plain.adjusts_logits
    assert not plain.has_penalties
    biased = SamplingOptions(logit_bias=LogitBias.of({1: 1.0}))
    assert biased.adjusts_logits
    assert not biased.has_penalties
    for name in ("repetition_penalty", "presence_penalty", "frequency_penalty"):
        penalised = SamplingOptions(**{name: 0.5})  # type: ignore[arg-type]
        assert penalised.adjusts_logits
        assert penalised.has_penalties


def test_the_tokens_for_penalties_keep_up_with_the_sequence() -> None:
    sequence = Sequence(1, 1, 0, [5, 6, 7], SamplingParams(max_tokens=9), prompt_length=2)
    for token in (8, 9):
        prompt, output = sequence.packed()
        assert [unpack(prompt), unpack(output)] == [sequence.tokens[:2], sequence.tokens[2:]]
        sequence.tokens.append(token)
    assert unpack(sequence.packed()[1]) == [7, 8, 9]


@pytest.mark.parametrize("token", [-1, 2**31, 2**64 - 1])
def test_a_bias_on_a_token_that_cannot_be_is_refused_by_name(token: int) -> None:
    with pytest.raises(InvalidRequest) as caught:
        LogitBias.of({token: 1.0})
    assert caught.value.param == "logit_bias"
