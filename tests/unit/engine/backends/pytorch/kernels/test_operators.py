"""The compiled operators against PyTorch's own, which compute the same elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tandem.engine.backends.pytorch.kernels import compiled, operators, products
from tandem.engine.backends.pytorch.kernels.operators import LayerCache, Places, Results, RMSNorm
from tandem.engine.backends.pytorch.layers import attention
from tandem.engine.backends.pytorch.layers.attention import BatchBuilder, KVCache, PagedGroup
from tandem.engine.checkpoint.config import ModelConfig, RopeScaling
from tandem.engine.checkpoint.sharding import whole
from tandem.engine.core.step import SequenceStep

DTYPES = [torch.float32, torch.bfloat16]
#: Of the largest number, by dtype: the order of a sum, or one rounding more.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2**-7}
BLOCK = 4


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == expected.dtype
    bound = TOLERANCE[found.dtype] * max(1.0, float(expected.abs().max()))
    assert float((found.float() - expected.float()).abs().max()) <= bound


@pytest.fixture
def by_pytorch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(operators, "takes", lambda *_: False)
    return monkeypatch


@given(st.floats(-90.0, 0.0, width=32))
@settings(max_examples=500, deadline=None)
def test_exponentials_are_those_of_the_c_library(number: float) -> None:
    expected = math.exp(max(number, -87.0))
    assert compiled._exp(np.float32(number)) == pytest.approx(expected, rel=2e-7)


def test_the_exponential_of_what_is_not_a_number_is_none() -> None:
    assert math.isnan(compiled._exp(np.float32(math.nan)))


@given(st.floats(width=32))
@settings(max_examples=500, deadline=None)
def test_bfloat16_is_rounded_as_pytorch_rounds(number: float) -> None:
    bits = np.array([compiled.rounded(np.float32(number))], dtype=np.int16)
    found = torch.from_numpy(bits).view(torch.bfloat16)
    expected = torch.tensor([number], dtype=torch.float32).bfloat16()
    assert torch.equal(found, expected) or (bool(found.isnan()) and bool(expected.isnan()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 5])
def test_norms_are_pytorchs(by_pytorch: pytest.MonkeyPatch, dtype: torch.dtype, rows: int) -> None:
    weight, states = random(96, seed=1, dtype=dtype), random(rows, 96, dtype=dtype)
    expected = RMSNorm(weight, 1e-5)(states)
    by_pytorch.undo()
    assert_close(RMSNorm(weight, 1e-5)(states), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 5])
def test_swiglu_is_pytorchs(by_pytorch: pytest.MonkeyPatch, dtype: torch.dtype, rows: int) -> None:
    states = 8 * random(rows, 2 * 96, dtype=dtype)
    expected = operators.swiglu(states, Results())
    by_pytorch.undo()
    assert_close(operators.swiglu(states, Results()), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 5])
def test_rows_are_rotated_and_placed_as_by_pytorch(
    by_pytorch: pytest.MonkeyPatch, dtype: torch.dtype, rows: int
) -> None:
    heads, kv_heads, head_dim = 6, 2, 12
    joined = random(rows, heads + 2 * kv_heads, head_dim, dtype=dtype)
    cos, sin = (random(rows, head_dim, seed=seed, dtype=dtype) for seed in (1, 2))
    for table in (cos, sin):
        table[:, head_dim // 2 :] = table[:, : head_dim // 2]
    slots = torch.tensor([7, 0, 11, 4, 2])[:rows]

    def run() -> tuple[torch.Tensor, LayerCache]:
        shape = (3, BLOCK, kv_heads, head_dim)
        cache = LayerCache(torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype))
        places = Places.of(cos, sin, slots)
        return operators.place(joined, heads, places, cache, Results()), cache

    expected, expected_cache = run()
    by_pytorch.undo()
    found, cache = run()
    assert_close(found, expected)
    assert_close(cache.keys, expected_cache.keys)
    assert torch.equal(cache.values, expected_cache.values)


def config(window: int | None) -> ModelConfig:
    return ModelConfig(
        architecture="LlamaForCausalLM",
        vocab_size=32,
        hidden_size=48,
        intermediate_size=64,
        num_layers=1,
        num_heads=6,
        num_kv_heads=2,
        head_dim=8,
        context_length=64,
        rms_norm_eps=1e-5,
        rope_theta=1e4,
        rope_scaling=RopeScaling(),
        tie_word_embeddings=True,
        qkv_bias=False,
        output_bias=False,
        mlp_bias=False,
        qk_norm=False,
        sliding_windows=(window,),
        dtype="float32",
        eos_token_ids=frozenset(),
    )


def attended(
    cache: KVCache, queries: torch.Tensor, steps: list[SequenceStep], window: int | None
) -> torch.Tensor:
    shape, device = config(window), torch.device("cpu")
    builder = BatchBuilder(shape, whole(shape), BLOCK, queries.dtype, device)
    (group,) = builder.build(steps).groups
    assert isinstance(group, PagedGroup) == (attention._PAGED_THREADS > 0)
    return group.attend(queries, cache.layers[0], window)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("window", [None, 1, 3, 6])
@given(lengths=st.lists(st.integers(1, 16), min_size=1, max_size=5), seed=st.integers(0, 99))
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_blocks_are_attended_to_where_they_are_as_when_gathered(
    monkeypatch: pytest.MonkeyPatch,
    dtype: torch.dtype,
    window: int | None,
    lengths: list[int],
    seed: int,
) -> None:
    shape, device = config(window), torch.device("cpu")
    blocks = 4 * len(lengths)
    cache = KVCache(
        shape, whole(shape), blocks=blocks, block_size=BLOCK, dtype=dtype, device=device
    )
    for number, half in enumerate((cache.layers[0].keys, cache.layers[0].values)):
        half.copy_(random(*half.shape, seed=seed + number, dtype=dtype))
    order = torch.randperm(blocks, generator=torch.Generator().manual_seed(seed)).tolist()
    steps = [
        SequenceStep(index, [1], length - 1, order[4 * index : 4 * index + 4], None)
        for index, length in enumerate(lengths)
    ]
    queries = random(len(lengths), 6, 8, seed=seed + 2, dtype=dtype)
    monkeypatch.setattr(attention, "_PAGED_THREADS", 0)
    gathered = attended(cache, queries, steps, window)
    monkeypatch.setattr(attention, "_PAGED_THREADS", 1024)
    assert_close(attended(cache, queries, steps, window), gathered)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("half", ["keys", "values"])
def test_numbers_that_are_not_finite_spoil_their_own_row_alone(half: str, bad: float) -> None:
    shape, device = config(None), torch.device("cpu")
    cache = KVCache(
        shape, whole(shape), blocks=2, block_size=BLOCK, dtype=torch.float32, device=device
    )
    getattr(cache.layers[0], half)[0, 1] = bad
    steps = [SequenceStep(index, [1], 2, [index], None) for index in range(2)]
    queries = random(2, 6, 8)
    found = attended(cache, queries, steps, None)
    if half == "values" or not math.isinf(bad):
        assert not found[0].isfinite().any()
    assert found[1].isfinite().all()


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=40),
    st.floats(2.0**-20, 1.0, width=32),
)
@settings(max_examples=200, deadline=None)
def test_two_digits_keep_sixteen_bits_of_a_rows_largest(values: list[float], factor: float) -> None:
    states = torch.tensor([values, [factor * value for value in values]])
    digits = operators.Digits.of(states, np.float32(254))
    numbers = torch.from_numpy(digits.values).double() - products.ZERO
    assert numbers.abs().max() <= 127
    whole = numbers[:2] + numbers[2:] / 254
    error = (whole * torch.from_numpy(digits.scales).double()[:, None] - states.double()).abs()
    bound = states.double().abs().amax(1, keepdim=True) / 127 / 254
    assert (error <= bound * 0.51 + 1e-30).all()
