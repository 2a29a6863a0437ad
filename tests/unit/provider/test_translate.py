"""Sampling on its way from the protocol to the engine."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tandem import engine
from tandem.errors import InvalidRequest
from tandem.protocol import Sampling
from tandem.provider.translate import sampling_params

#: What the engine is told beside its sampling parameters.
_BESIDE = {"stop", "ignore_eos"}
#: A value of each that is not its default.
VALUES: dict[str, Any] = {
    "max_tokens": 7,
    "temperature": 0.5,
    "top_p": 0.25,
    "top_k": 9,
    "min_p": 0.125,
    "repetition_penalty": 1.5,
    "presence_penalty": -1.0,
    "frequency_penalty": 2.0,
    "logit_bias": {11: -3.0},
    "seed": 5,
    "stop_token_ids": [3],
    "logprobs": 2,
}


def test_the_engine_and_the_protocol_have_the_same_parameters() -> None:
    """By name: one that only one of them has would be dropped without a word."""
    ours, wire = set(engine.SamplingParams.__struct_fields__), set(Sampling.__struct_fields__)
    assert ours == wire - _BESIDE
    assert set(engine.GenerationRequest.__struct_fields__) >= _BESIDE
    assert ours == set(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_a_parameter_reaches_the_engine(name: str) -> None:
    plain = Sampling(seed=1)
    changed = msgspec.structs.replace(plain, **{name: VALUES[name]})
    expected = frozenset(VALUES[name]) if name == "stop_token_ids" else VALUES[name]
    assert sampling_params(changed) == msgspec.structs.replace(
        sampling_params(plain), **{name: expected}
    )
    assert sampling_params(changed) != sampling_params(plain)


def test_without_a_seed_each_request_draws_its_own() -> None:
    assert sampling_params(Sampling()).seed != sampling_params(Sampling()).seed


def test_an_answer_of_no_tokens_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        sampling_params(Sampling(max_tokens=0))
    assert refused.value.param == "max_tokens"
