"""Linear maps, and the embedding: how weights are kept, by their dtype and the machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels.dense import linear
from tandem.engine.backends.pytorch.kernels.int8 import make_int8_linear
from tandem.engine.backends.pytorch.kernels.packed import PackedLinear, PackedWeight
from tandem.engine.backends.pytorch.kernels.rounding import rounded_to_four_bits
from tandem.engine.backends.pytorch.kernels.tiled.linear import (
    TiledLinear,
    make_codes_linear,
    makes_tiles,
    tile_codes,
)
from tandem.engine.backends.pytorch.kernels.tiled.weights import TiledNumbers
from tandem.engine.backends.pytorch.layers.quantized import DequantizingLinear, QuantizedEmbedding
from tandem.engine.checkpoint.dtypes import Quantization
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor


class Linear(Protocol):
    """(tokens, in_features) → (tokens, out_features), dtype kept.

    With a `dtype` of float32 sums come as they are, not rounded to the dtype of the states.
    """

    def __call__(self, states: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor: ...


class Embedding(Protocol):
    """(tokens,) ids → (tokens, hidden)."""

    def __call__(self, tokens: torch.Tensor, /) -> torch.Tensor: ...


class DenseLinear:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, states: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        return linear(states, self._weight, self._bias, dtype)


class JoinedLinear:
    """Several maps of the same states, whose outputs follow one another."""

    def __init__(self, parts: Sequence[Linear]) -> None:
        self._parts = parts

    def __call__(self, states: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.cat([part(states, dtype) for part in self._parts], dim=-1)


def _make_unquantized(weight: torch.Tensor, bias: torch.Tensor | None) -> Linear:
    if _packs(weight):
        return PackedLinear(PackedWeight(weight), bias)
    if makes_tiles(weight):
        return TiledLinear(TiledNumbers(weight), bias)
    return DenseLinear(weight, bias)


def _make_four_bits(
    weight: torch.Tensor, bias: torch.Tensor | None, *, in_tiles: bool = False
) -> Linear:
    """In eight bits where the inputs do not divide into groups."""
    rounded = rounded_to_four_bits(weight)
    if rounded is None:
        return make_int8_linear(weight, bias, in_tiles=in_tiles)
    return make_quantized_linear(rounded, bias, weight.dtype, weight.device)


#: How weights are kept, by what an operator asked for.
_MAKERS: dict[Quantization | None, Callable[[torch.Tensor, torch.Tensor | None], Linear]] = {
    None: _make_unquantized,
    Quantization.INT8: make_int8_linear,
    Quantization.INT4: _make_four_bits,
}


def make_linear(
    weight: torch.Tensor, bias: torch.Tensor | None, quantization: Quantization | None
) -> Linear:
    """Of a weight (out_features, in_features) and a bias (out_features,)."""
    return _MAKERS[quantization](weight, bias)


def make_expert_linear(
    weight: torch.Tensor, bias: torch.Tensor | None, quantization: Quantization | None
) -> Linear:
    """As `make_linear`, in tiles of our own if in few bits: a call a layer reads all that few rows
    have chosen, and with many rows an expert has few of them, as fast as by oneDNN.
    """
    if quantization is None:
        return make_linear(weight, bias, None)
    make = make_int8_linear if quantization is Quantization.INT8 else _make_four_bits
    return make(weight, bias, in_tiles=True)


def make_quantized_linear(
    weight: QuantizedTensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
    device: torch.device,
    *,
    exact: bool = True,
) -> Linear:
    """Of a weight that its file has in few bits, which it stays in if `keeps_codes`.

    Unless it is to be `exact`, 16 bits of each state are enough where that is faster.
    Turning it into numbers for every product takes a thousand times as long on a CPU.
    """
    if device.type != "cpu":
        return DequantizingLinear(weight, bias, device)
    linear = make_codes_linear(weight, bias, exact=exact)
    return make_linear(_dense(weight, dtype), bias, None) if linear is None else linear


def keeps_codes(weight: QuantizedTensor, device: torch.device) -> bool:
    """Whether such a weight stays as it is, rather than in numbers of the model's dtype."""
    return device.type != "cpu" or tile_codes(weight) is not None


def make_quantized_tied(
    weight: QuantizedTensor, dtype: torch.dtype, device: torch.device, *, exact: bool = True
) -> tuple[Embedding, Linear]:
    """An embedding and a head with one weight in few bits, which is kept once if loops read it."""
    loops = device.type == "cpu" and weight.order is None
    tiled = tile_codes(weight, exact=exact) if loops else None
    if tiled is not None:
        return lambda tokens: tiled.rows(tokens).to(dtype), TiledLinear(tiled, None)
    if loops:
        return make_tied(_dense(weight, dtype), None)
    return QuantizedEmbedding(weight, dtype, device), DequantizingLinear(weight, None, device)


def make_embedding(weight: torch.Tensor) -> Embedding:
    return lambda tokens: functional.embedding(tokens, weight)


def make_tied(weight: torch.Tensor, quantization: Quantization | None) -> tuple[Embedding, Linear]:
    """An embedding and a head with one weight, which is kept once if both can read it."""
    if quantization is None and _packs(weight):
        packed = PackedWeight(weight)
        if packed.tiles is not None:
            return packed.rows, PackedLinear(packed, None)
        return make_embedding(weight), DenseLinear(weight, None)
    if quantization is None and makes_tiles(weight):
        tiled = TiledNumbers(weight)
        return tiled.rows, TiledLinear(tiled, None)
    return make_embedding(weight), make_linear(weight, None, quantization)


def _dense(weight: QuantizedTensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(weight.dequantize()).to(dtype)


def _packs(weight: torch.Tensor) -> bool:
    on_cpu = weight.device.type == "cpu"
    return on_cpu and weight.dtype == torch.bfloat16 and PackedWeight.is_fast()
