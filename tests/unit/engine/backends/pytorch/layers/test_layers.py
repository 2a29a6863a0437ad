"""Layers whose loops are compiled on CPUs, against PyTorch's operators, which others take."""

from __future__ import annotations

import math

import pytest
import torch
from tests.support.tensors import DTYPES, assert_close, random_tensor
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels import arrays
from tandem.engine.backends.pytorch.kernels.arrays import ResultBuffer
from tandem.engine.backends.pytorch.layers import kv_cache, mlp, norm, rotary
from tandem.engine.backends.pytorch.layers.kv_cache import LayerCache, Stored
from tandem.engine.backends.pytorch.layers.mlp import Activation, gate, gelu_tanh
from tandem.engine.backends.pytorch.layers.norm import (
    LayerNorm,
    NormOverHeads,
    NormPerHead,
    Residual,
    RMSNorm,
)
from tandem.engine.backends.pytorch.layers.rotary import RotarySlots, rotate_and_cache
from tandem.engine.core.communicator import Solo

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


@pytest.mark.parametrize("by_loops", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_rounds_once(
    by_pytorch: pytest.MonkeyPatch, by_loops: bool, dtype: torch.dtype
) -> None:
    if by_loops:
        by_pytorch.undo()
    weight = random_tensor(96, seed=1, dtype=dtype)
    states = random_tensor(5, 96, dtype=torch.bfloat16)
    wide = states.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)
    found, expected = RMSNorm(weight, 1e-5)(states), (wide * weight).to(torch.bfloat16)
    assert (found != expected).float().mean() < 0.01  # the order of a sum, at most


@pytest.mark.parametrize("dtype", DTYPES)
def test_layer_norms_are_pytorchs(dtype: torch.dtype) -> None:
    states = random_tensor(3, 2, 8, dtype=dtype)
    weight, bias = random_tensor(2, 8, seed=1), random_tensor(2, 8, seed=2)
    for head in range(2):
        expected = functional.layer_norm(
            states[:, head].float(), (8,), weight[head], bias[head], 1e-5
        )
        assert_close(LayerNorm(weight, bias, 1e-5)(states)[:, head], expected.to(dtype))
    expected = functional.layer_norm(states.float(), (8,), weight[0], eps=1e-5)
    assert_close(LayerNorm(weight[0], None, 1e-5)(states), expected.to(dtype))


@pytest.mark.parametrize("rows", [1, 3])
def test_values_are_kept_by_norms_of_queries_and_keys(rows: int) -> None:
    joined = random_tensor(rows, 4 + 2 * 2, 8)
    queries, keys = random_tensor(8, seed=1), random_tensor(8, seed=2)
    normed = NormPerHead(RMSNorm(queries, 1e-5), RMSNorm(keys, 1e-5), 4, 2)(joined)
    assert_close(normed[:, :4], functional.rms_norm(joined[:, :4], (8,), queries, 1e-5))
    assert_close(normed[:, 4:6], functional.rms_norm(joined[:, 4:6], (8,), keys, 1e-5))
    assert torch.equal(normed[:, 6:], joined[:, 6:])


class TwoRanks(Solo[torch.Tensor]):
    """A group whose other rank adds `others`."""

    size = 2

    def __init__(self, others: torch.Tensor) -> None:
        self._others = others

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor + self._others


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_norm_over_all_heads_spans_the_ranks(dtype: torch.dtype) -> None:
    queries, keys, values = (random_tensor(3, n, 8, seed=n, dtype=dtype) for n in (4, 2, 2))
    weights = random_tensor(4, 8, seed=7), random_tensor(2, 8, seed=8)
    expected = [
        functional.rms_norm(part.float().flatten(1), (part[0].numel(),), weight.flatten(), 1e-5)
        .view(part.shape)
        .to(dtype)
        for part, weight in zip((queries, keys), weights, strict=True)
    ]
    squares = [part.float().pow(2).flatten(2).sum(-1) for part in (queries, keys)]
    for heads, kv_heads, others in (
        (slice(0, 2), slice(0, 1), (slice(2, 4), slice(1, 2))),
        (slice(2, 4), slice(1, 2), (slice(0, 2), slice(0, 1))),
    ):
        elsewhere = [part[:, own].sum(1) for part, own in zip(squares, others, strict=True)]
        norm = NormOverHeads(
            weights[0][heads],
            weights[1][kv_heads],
            1e-5,
            widths=(4 * 8, 2 * 8),
            group=TwoRanks(torch.stack(elsewhere, dim=1)),
        )
        own = torch.cat((queries[:, heads], keys[:, kv_heads], values[:, kv_heads]), dim=1)
        found = norm(own)
        assert_close(found[:, :2], expected[0][:, heads])
        assert_close(found[:, 2:3], expected[1][:, kv_heads])
        assert torch.equal(found[:, 3:], values[:, kv_heads])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize("activation", [functional.silu, gelu_tanh])
def test_gates_are_pytorchs(
    by_pytorch: pytest.MonkeyPatch, activation: Activation, dtype: torch.dtype, rows: int
) -> None:
    states = 8 * random_tensor(rows, 2 * 96, dtype=dtype)
    expected = gate(states, activation, ResultBuffer())
    by_pytorch.undo()
    assert_close(gate(states, activation, ResultBuffer()), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "rotary_dim"), [(1, 12), (5, 12), (1, 8), (5, 4), (5, 0)])
def test_rows_are_rotated_and_cached_as_by_pytorch(
    by_pytorch: pytest.MonkeyPatch, dtype: torch.dtype, rows: int, rotary_dim: int
) -> None:
    heads, kv_heads, head_dim = 6, 2, 12
    joined = random_tensor(rows, heads + 2 * kv_heads, head_dim, dtype=dtype)
    halves = (random_tensor(rows, rotary_dim // 2, seed=seed, dtype=dtype) for seed in (1, 2))
    cos, sin = (torch.cat((half, half), dim=1) for half in halves)
    slots = torch.tensor([7, 0, 11, 4, 2])[:rows]

    def run() -> tuple[torch.Tensor, LayerCache]:
        shape = (3, BLOCK, kv_heads, head_dim)
        cache = LayerCache(*(Stored(torch.zeros(shape, dtype=dtype)) for _ in range(2)))
        step = RotarySlots.of(cos, sin, slots)
        return rotate_and_cache(joined, heads, step, cache, ResultBuffer()), cache

    expected, expected_cache = run()
    kept = slice(rotary_dim, None)
    assert torch.equal(expected[:, :, kept], joined[:, :heads, kept])
    by_pytorch.undo()
    found, cache = run()
    assert_close(found, expected)
    assert torch.equal(found[:, :, kept], expected[:, :, kept])
    assert_close(cache.keys.numbers, expected_cache.keys.numbers)
    assert torch.equal(cache.values.numbers, expected_cache.values.numbers)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("by_loops", [True, False])
def test_a_cache_of_eight_bits_keeps_each_head_within_half_a_step(
    by_pytorch: pytest.MonkeyPatch, dtype: torch.dtype, by_loops: bool
) -> None:
    if by_loops:
        by_pytorch.undo()
    rows, heads, kv_heads, head_dim = 4, 6, 2, 12
    joined = random_tensor(rows, heads + 2 * kv_heads, head_dim, dtype=dtype)
    joined[1] *= 1000
    joined[2] = 0
    joined[3, -1, 5] = joined[3, heads, 5] = math.inf
    cos, sin = torch.ones(rows, head_dim, dtype=dtype), torch.zeros(rows, head_dim, dtype=dtype)
    slots, shape = torch.tensor([7, 0, 11, 4]), (3, BLOCK, kv_heads, head_dim)
    cache = LayerCache(
        *(Stored(torch.zeros(shape, dtype=torch.int8), torch.zeros(shape[:-1])) for _ in range(2))
    )
    step = RotarySlots.of(cos, sin, slots)
    rotate_and_cache(joined, heads, step, cache, ResultBuffer())
    new = joined[:, heads : heads + kv_heads], joined[:, heads + kv_heads :]
    for stored, expected in zip((cache.keys, cache.values), new, strict=True):
        found = stored.blocks(torch.arange(3), torch.float32).flatten(0, 1)[slots]
        wide = expected.float()
        steps = wide.abs().amax(dim=-1, keepdim=True) / 127
        assert ((found - wide).abs() <= steps * 0.501)[:3].all()
        spoilt = ~wide.isfinite().all(dim=-1)
        assert not found[spoilt].isfinite().any()
        assert found[~spoilt].isfinite().all()
        stored.clear(torch.tensor([1]))
        assert not stored.blocks(torch.tensor([1]), torch.float32).any()


@pytest.mark.parametrize("by_loops", [True, False])
def test_a_cache_of_bfloat16_rounds_what_wider_states_give(
    by_pytorch: pytest.MonkeyPatch, by_loops: bool
) -> None:
    if by_loops:
        by_pytorch.undo()
    rows, heads, kv_heads, head_dim = 3, 6, 2, 12
    joined = random_tensor(rows, heads + 2 * kv_heads, head_dim)
    cos, sin = torch.ones(rows, head_dim), torch.zeros(rows, head_dim)
    slots, shape = torch.tensor([7, 0, 4]), (2, BLOCK, kv_heads, head_dim)
    cache = LayerCache(*(Stored(torch.zeros(shape, dtype=torch.bfloat16)) for _ in range(2)))
    queries = rotate_and_cache(
        joined, heads, RotarySlots.of(cos, sin, slots), cache, ResultBuffer()
    )
    assert torch.equal(queries, joined[:, :heads])
    new = joined[:, heads : heads + kv_heads], joined[:, heads + kv_heads :]
    for stored, expected in zip((cache.keys, cache.values), new, strict=True):
        found = stored.blocks(torch.arange(2), torch.float32).flatten(0, 1)[slots]
        assert torch.equal(found, expected.bfloat16().float())


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3])
def test_a_change_is_added_as_pytorch_adds_it(dtype: torch.dtype, rows: int) -> None:
    states, change = (random_tensor(rows, 70, seed=seed, dtype=dtype) for seed in (1, 2))
    for scale in (1.0, 0.25):
        assert torch.equal(Residual(scale)(states, change), states + scale * change)
    apart = random_tensor(rows, 140, seed=3, dtype=dtype)[:, ::2]
    assert torch.equal(Residual()(states, apart), states + apart)
