"""Linear maps: in the model's own dtype, or with int8 weights and one scale an output row."""

from __future__ import annotations

from typing import Protocol

import torch
from torch.nn import functional

#: Above this many rows the weights are worth unpacking for one large matrix product.
_UNPACK_ROWS = 32


class Linear(Protocol):
    """(tokens, in_features) → (tokens, out_features), dtype kept."""

    def __call__(self, states: torch.Tensor) -> torch.Tensor: ...


class DenseLinear:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return functional.linear(states, self._weight, self._bias)


class Int8Linear:
    """Weight-only quantisation: symmetric, the scale of a row is its largest magnitude / 127."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        scales = weight.float().abs().amax(dim=1).clamp(min=1e-8) / 127.0
        self._weight = (weight.float() / scales[:, None]).round().to(torch.int8).contiguous()
        self._scales = scales.to(weight.dtype)
        self._bias = bias
        # PyTorch's packed kernel is vectorised for bfloat16 only; the other dtypes unpack.
        self._packed = weight.dtype == torch.bfloat16 and weight.device.type == "cpu"

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        if self._packed and states.shape[0] < _UNPACK_ROWS:
            product = torch._weight_int8pack_mm(states, self._weight, self._scales)  # noqa: SLF001
            return product if self._bias is None else product + self._bias
        weight = self._weight.to(states.dtype) * self._scales[:, None]
        return functional.linear(states, weight, self._bias)


def make_linear(weight: torch.Tensor, bias: torch.Tensor | None, quantize: str | None) -> Linear:
    return Int8Linear(weight, bias) if quantize == "int8" else DenseLinear(weight, bias)
