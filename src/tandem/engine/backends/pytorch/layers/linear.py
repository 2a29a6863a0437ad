"""Linear maps, and the embedding: how weights are kept, by their dtype and the machine."""

from __future__ import annotations

from typing import Protocol

import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels.int8 import make_int8_linear
from tandem.engine.backends.pytorch.kernels.packed import PackedLinear, PackedWeight


class Linear(Protocol):
    """(tokens, in_features) → (tokens, out_features), dtype kept."""

    def __call__(self, states: torch.Tensor) -> torch.Tensor: ...


class Embedding(Protocol):
    """(tokens,) ids → (tokens, hidden)."""

    def __call__(self, tokens: torch.Tensor, /) -> torch.Tensor: ...


class DenseLinear:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return functional.linear(states, self._weight, self._bias)


def make_linear(weight: torch.Tensor, bias: torch.Tensor | None, quantize: str | None) -> Linear:
    if quantize == "int8":
        return make_int8_linear(weight, bias)
    if _packs(weight):
        return PackedLinear(PackedWeight(weight), bias)
    return DenseLinear(weight, bias)


def make_embedding(weight: torch.Tensor) -> Embedding:
    return lambda tokens: functional.embedding(tokens, weight)


def make_tied(weight: torch.Tensor, quantize: str | None) -> tuple[Embedding, Linear]:
    """An embedding and a head with one weight, which is kept once if both can read it."""
    if quantize is None and _packs(weight):
        packed = PackedWeight(weight)
        if packed.tiles is not None:
            return packed.rows, PackedLinear(packed, None)
        return make_embedding(weight), DenseLinear(weight, None)
    return make_embedding(weight), make_linear(weight, None, quantize)


def _packs(weight: torch.Tensor) -> bool:
    on_cpu = weight.device.type == "cpu"
    return on_cpu and weight.dtype == torch.bfloat16 and PackedWeight.is_fast()
