"""Layers whose loops are compiled on CPUs, against PyTorch's operators, which others take."""

from __future__ import annotations

import pytest
import torch
from tests.support.tensors import DTYPES, assert_close, random_tensor
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels import arrays
from tandem.engine.backends.pytorch.kernels.arrays import ResultBuffer
from tandem.engine.backends.pytorch.layers import kv_cache, mlp, norm, rotary
from tandem.engine.backends.pytorch.layers.kv_cache import LayerCache
from tandem.engine.backends.pytorch.layers.mlp import gate
from tandem.engine.backends.pytorch.layers.norm import RMSNorm
from tandem.engine.backends.pytorch.layers.rotary import RotarySlots, rotate_and_cache

BLOCK = 4


@pytest.fixture
def by_pytorch(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for module in (arrays, kv_cache, mlp, norm, rotary):
        monkeypatch.setattr(module, "has_loops", lambda *_: False)
    return monkeypatch


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 5])
def test_norms_are_pytorchs(by_pytorch: pytest.MonkeyPatch, dtype: torch.dtype, rows: int) -> None:
    weight, states = random_tensor(96, seed=1, dtype=dtype), random_tensor(rows, 96, dtype=dtype)
    expected = RMSNorm(weight, 1e-5)(states)
    by_pytorch.undo()
    assert_close(RMSNorm(weight, 1e-5)(states), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 5])
def test_swiglu_is_pytorchs(by_pytorch: pytest.MonkeyPatch, dtype: torch.dtype, rows: int) -> None:
    states = 8 * random_tensor(rows, 2 * 96, dtype=dtype)
    expected = gate(states, functional.silu, ResultBuffer())
    by_pytorch.undo()
    assert_close(gate(states, functional.silu, ResultBuffer()), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 5])
def test_rows_are_rotated_and_cached_as_by_pytorch(
    by_pytorch: pytest.MonkeyPatch, dtype: torch.dtype, rows: int
) -> None:
    heads, kv_heads, head_dim = 6, 2, 12
    joined = random_tensor(rows, heads + 2 * kv_heads, head_dim, dtype=dtype)
    cos, sin = (random_tensor(rows, head_dim, seed=seed, dtype=dtype) for seed in (1, 2))
    for table in (cos, sin):
        table[:, head_dim // 2 :] = table[:, : head_dim // 2]
    slots = torch.tensor([7, 0, 11, 4, 2])[:rows]

    def run() -> tuple[torch.Tensor, LayerCache]:
        shape = (3, BLOCK, kv_heads, head_dim)
        cache = LayerCache(torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=dtype))
        step = RotarySlots.of(cos, sin, slots)
        return rotate_and_cache(joined, heads, step, cache, ResultBuffer()), cache

    expected, expected_cache = run()
    by_pytorch.undo()
    found, cache = run()
    assert_close(found, expected)
    assert_close(cache.keys, expected_cache.keys)
    assert torch.equal(cache.values, expected_cache.values)


@pytest.mark.parametrize("activation", [functional.gelu, torch.relu])
def test_other_activations_gate_as_well(activation: mlp.Activation) -> None:
    gates, ups = random_tensor(3, 32), random_tensor(3, 32, seed=1)
    found = gate(torch.cat((gates, ups), dim=1), activation, ResultBuffer())
    assert_close(found, activation(gates) * ups)


def test_the_memory_of_a_single_row_is_used_again() -> None:
    results, like = ResultBuffer(), torch.ones(1)
    assert results.empty((1, 8), like) is results.empty((1, 8), like)
    assert results.empty((2, 8), like) is not results.empty((2, 8), like)
    assert results.empty((1, 8), like).shape == (1, 8)
    assert results.empty((1, 4), like).shape == (1, 4)
