"""Sampling on its way from the protocol to the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tandem import engine
from tandem.errors import InvalidRequest
from tandem.protocol import Chunk, Sampling, decode_answer_part, encode
from tandem.provider.translate import delta, sampling_params

#: What a model's files say of sampling: nothing, and something.
API = engine.SamplingDefaults()
MODEL = engine.SamplingDefaults(temperature=0.6, top_p=0.95, top_k=20, min_p=0.1)
#: What the engine is told beside its sampling parameters.
_BESIDE = {"stop", "ignore_eos"}
#: What says how the others are meant.
_ABOUT = {"model_defaults"}
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

#: What the engine has in another form.
_OURS: dict[str, Callable[[Any], object]] = {
    "stop_token_ids": frozenset,
    "logit_bias": engine.LogitBias.of,
}


def test_the_engine_and_the_protocol_have_the_same_parameters() -> None:
    """By name: one that only one of them has would be dropped without a word."""
    ours, wire = set(engine.SamplingParams.__struct_fields__), set(Sampling.__struct_fields__)
    assert ours == wire - _BESIDE - _ABOUT
    assert set(engine.GenerationRequest.__struct_fields__) >= _BESIDE
    assert ours == set(VALUES)


@pytest.mark.parametrize("name", VALUES)
def test_a_parameter_reaches_the_engine(name: str) -> None:
    plain = Sampling(seed=1)
    changed = msgspec.structs.replace(plain, **{name: VALUES[name]})
    expected = _OURS[name](VALUES[name]) if name in _OURS else VALUES[name]
    assert sampling_params(changed, API) == msgspec.structs.replace(
        sampling_params(plain, API), **{name: expected}
    )
    assert sampling_params(changed, API) != sampling_params(plain, API)


def test_without_a_seed_each_request_draws_its_own() -> None:
    assert sampling_params(Sampling(), API).seed != sampling_params(Sampling(), API).seed


def test_an_answer_of_no_tokens_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        sampling_params(Sampling(max_tokens=0), API)
    assert refused.value.param == "max_tokens"


def test_what_a_request_leaves_out_is_as_the_model_says() -> None:
    asked = Sampling(temperature=1.0, top_k=0, model_defaults=True)
    params = sampling_params(asked, MODEL)
    assert (params.temperature, params.top_k) == (1.0, 0)
    assert (params.top_p, params.min_p, params.repetition_penalty) == (0.95, 0.1, 1.0)


def test_what_an_older_coordinator_leaves_out_is_as_the_api_says() -> None:
    params = sampling_params(Sampling(seed=1), MODEL)
    assert params == sampling_params(Sampling(seed=1), API)
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (1.0, 1.0, 0, 0.0)


def test_a_coordinator_takes_the_log_probabilities_of_any_vocabulary() -> None:
    entry = engine.LogprobEntry("x" * 5000, b"x" * 5000, 7, -1.0, [])
    entries = [msgspec.structs.replace(entry, top=[entry])]
    own = engine.ChoiceDelta(0, "x" * 5000, [7], entries, None)
    chunk = decode_answer_part(encode(Chunk([delta(own)])))
    assert isinstance(chunk, Chunk)
    (read,) = chunk.deltas
    assert read.text == own.text
    assert read.logprobs is not None
    (shown,) = read.logprobs
    assert (shown.token, shown.raw) == ("x" * 1024, b"x" * 1024)
    assert (shown.top[0].token, shown.top[0].raw) == ("x" * 1024, b"x" * 1024)
