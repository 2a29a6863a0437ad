"""Linear maps by weights in tiles of our own, and whether they are faster than PyTorch's here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels.arrays import ResultBuffer, has_loops, is_kept
from tandem.engine.backends.pytorch.kernels.autotune import Autotuner, Call, sample_weight
from tandem.engine.backends.pytorch.kernels.tiled.codes import group_codes
from tandem.engine.backends.pytorch.kernels.tiled.vectors import HAS_TILES
from tandem.engine.backends.pytorch.kernels.tiled.weights import (
    TiledCodes,
    TiledNumbers,
    TiledWeight,
)
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor

#: How rows are multiplied.
TILED, PYTORCH = "tiled", "PyTorch"
#: Weights to measure with: two are more than a cache holds.
_SAMPLES = 2


class TiledLinear:
    """(rows, inputs) → (rows, outputs) of any dtype; a row's result depends on no other row."""

    def __init__(self, weight: TiledWeight, bias: torch.Tensor | None) -> None:
        self.weight = weight
        self.bias = bias
        self._results = ResultBuffer()
        self._repeated: _Repeated | None = None

    def __call__(self, states: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        repeated = self._repeated
        if repeated is not None and repeated.is_of(states, dtype):
            repeated.multiply()
            result = repeated.result
        elif has_loops(states.dtype, states.device):
            result = self._results.empty((len(states), self.weight.shape[0]), states, dtype)
            self.weight.multiply(states, result)
            self._keep(states, dtype, result)
        else:
            return self(states.float()).to(dtype or states.dtype)
        return result if self.bias is None else result + self.bias

    def _keep(self, states: torch.Tensor, dtype: torch.dtype | None, result: torch.Tensor) -> None:
        """For the next step, where states and result are those of buffers that come again."""
        if is_kept(states) and is_kept(result):
            multiply = self.weight.repeated(states, result)
            self._repeated = _Repeated(states, dtype, torch.get_num_threads(), result, multiply)


@dataclass(frozen=True)
class _Repeated:
    """A product that only needs to be said once."""

    states: torch.Tensor
    dtype: torch.dtype | None
    threads: int
    result: torch.Tensor
    multiply: Callable[[], object]

    def is_of(self, states: torch.Tensor, dtype: torch.dtype | None) -> bool:
        same = states is self.states and dtype is self.dtype
        return same and self.threads == torch.get_num_threads()


class OrderedLinear:
    """Takes the inputs in another order before they are multiplied."""

    def __init__(self, linear: TiledLinear, order: torch.Tensor) -> None:
        self._linear = linear
        self._order = order

    def __call__(self, states: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        return self._linear(states.index_select(-1, self._order), dtype)


def makes_tiles(weight: torch.Tensor) -> bool:
    """Whether tiles multiply such weights: unless PyTorch is faster with few rows and many.

    With one row both wait for the same memory, so who is faster then is often an accident.
    """
    if weight.device.type != "cpu" or weight.dtype != torch.bfloat16 or not HAS_TILES:
        return False
    return TILED in _tuner.tune().values()


def tile_codes(tensor: QuantizedTensor, *, exact: bool = True) -> TiledCodes | None:
    """Without the tensor's order; None where the loops cannot take its codes."""
    codes = group_codes(tensor) if HAS_TILES else None
    return None if codes is None else TiledCodes(codes, exact=exact)


def make_codes_linear(
    tensor: QuantizedTensor, bias: torch.Tensor | None, *, exact: bool = True
) -> TiledLinear | OrderedLinear | None:
    """By codes as they are; None where the loops cannot take them."""
    weight = tile_codes(tensor, exact=exact)
    if weight is None:
        return None
    linear = TiledLinear(weight, bias)
    if tensor.order is None:
        return linear
    return OrderedLinear(linear, torch.from_numpy(tensor.order))


def _sample_weights() -> list[torch.Tensor]:
    return [sample_weight() for _ in range(_SAMPLES)]


def _candidates(rows: int, weights: list[torch.Tensor]) -> dict[str, list[Call]]:
    states = torch.ones((rows, weights[0].shape[1]), dtype=torch.bfloat16)
    result = torch.empty((rows, weights[0].shape[0]), dtype=torch.bfloat16)
    tiled = [TiledNumbers(weight) for weight in weights]
    return {
        TILED: [partial(weight.multiply, states, result) for weight in tiled],
        PYTORCH: [partial(functional.linear, states, weight) for weight in weights],
    }


_tuner = Autotuner("bfloat16 tiles", (1, 32), _sample_weights, _candidates, beyond=TILED)
