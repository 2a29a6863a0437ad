"""bfloat16 weights in the blocks that oneDNN reads fastest, and the kernels for few rows.

The blocks can be read without oneDNN where their order is the known one: for the embedding that
shares its weight with the head, and for few rows, which oneDNN multiplies slowly on some CPUs.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from tandem.engine.backends.pytorch.kernels.arrays import ResultBuffer, as_array
from tandem.engine.backends.pytorch.kernels.autotune import (
    SAMPLE_SHAPE,
    SAMPLES,
    Autotuner,
    Call,
    sample_weight,
)
from tandem.engine.backends.pytorch.kernels.products import TILE_OUTPUTS, Tiles, multiply_bfloat16
from tandem.engine.backends.pytorch.kernels.tiles import known_tiles

#: PyTorch's own compiler calls these; they have no public name.
_mkldnn = torch.ops.mkldnn
#: For which oneDNN chooses its blocks; it takes any number.
_USUAL_ROWS = 16
#: With more rows oneDNN is the fastest everywhere.
MOST_ROWS = 16
#: With fewer rows oneDNN is slower than with so many on some CPUs.
_FULL_ROWS = 4
#: How few rows are multiplied.
ONEDNN, ONEDNN_PADDED, COMPILED = "oneDNN", "oneDNN, padded", "compiled"


class PackedWeight:
    """A bfloat16 (out_features, in_features) matrix on the CPU."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.blocks = _mkldnn._reorder_linear_weight(weight, _USUAL_ROWS)  # noqa: SLF001
        self.shape = weight.shape
        self.tiles = known_tiles(self.blocks, weight)

    @staticmethod
    def is_fast() -> bool:
        supported: bool = _mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001
        return supported

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        """(n,) → (n, in_features), where `tiles` are known."""
        assert self.tiles is not None, "rows can be found where the order of tiles is known"
        row, output = np.divmod(indices.numpy(), TILE_OUTPUTS)
        pairs = torch.from_numpy(self.tiles[row, :, output])
        return pairs.view(torch.bfloat16)


class PackedLinear:
    def __init__(self, weight: PackedWeight, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias
        self._results = ResultBuffer()
        _tuner.tune()

    @property
    def bias(self) -> torch.Tensor | None:
        return self._bias

    @property
    def tiles(self) -> Tiles | None:
        """None where their order is not known."""
        return self._weight.tiles

    @staticmethod
    def is_compiled(rows: int) -> bool:
        """Whether so many rows are multiplied by tiles, where they are known."""
        return _tuner.kernel(rows) == COMPILED

    def __call__(self, states: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        count, tiles = len(states), self._weight.tiles
        wide = dtype not in {None, states.dtype}
        # oneDNN takes two passes to a wide result, as long as one of twice the rows.
        kernel = _tuner.kernel(min(-(-count // 2), MOST_ROWS) if wide else count)
        if kernel == COMPILED and tiles is not None:
            product = multiply_tiles(states, tiles, self._results, dtype)
            return product if self._bias is None else product + self._bias
        if wide:
            return _multiply_wide(states, self._weight, self._bias)
        if kernel != ONEDNN and count < _FULL_ROWS:
            filled = states.new_zeros((_FULL_ROWS, states.shape[1]))
            filled[:count] = states
            return _multiply(filled, self._weight, self._bias)[:count]
        return _multiply(states, self._weight, self._bias)


def multiply_tiles(
    states: torch.Tensor, tiles: Tiles, results: ResultBuffer, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """`products.multiply_bfloat16` of bfloat16 (rows, in_features): (rows, out_features)."""
    product = results.empty((len(states), len(tiles) * TILE_OUTPUTS), states, dtype)
    multiply_bfloat16(tiles, as_array(states).view(np.int32), as_array(product))
    return product


def _multiply(
    states: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None
) -> torch.Tensor:
    product: torch.Tensor = _mkldnn._linear_pointwise(  # noqa: SLF001
        states, weight.blocks, bias, "none", [], ""
    )
    return product


def _multiply_wide(
    states: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None
) -> torch.Tensor:
    """float32, as the sum of two bfloat16: oneDNN gives no other, but rounds after it has added."""
    high = _multiply(states, weight, bias)
    low: torch.Tensor = _mkldnn._linear_pointwise.binary(  # noqa: SLF001
        states, -high, weight.blocks, bias, "add"
    )
    return high.float() + low.float()


def _sample_weights() -> list[PackedWeight]:
    weight = sample_weight()
    return [PackedWeight(weight) for _ in range(SAMPLES)]


def _candidates(count: int, weights: list[PackedWeight]) -> dict[str, list[Call]]:
    states = torch.ones((count, SAMPLE_SHAPE[1]), dtype=torch.bfloat16)
    tiles = [weight.tiles for weight in weights if weight.tiles is not None]
    kernels: dict[str, list[Call]] = {}
    if tiles:
        kernels[COMPILED] = [partial(multiply_tiles, states, one, ResultBuffer()) for one in tiles]
    if count < _FULL_ROWS:
        filled = states[:1].repeat(_FULL_ROWS, 1)
        kernels[ONEDNN_PADDED] = [partial(_multiply, filled, weight, None) for weight in weights]
    kernels[ONEDNN] = [partial(_multiply, states, weight, None) for weight in weights]
    return kernels


_tuner = Autotuner("bfloat16", (1, 3, 8, MOST_ROWS), _sample_weights, _candidates, beyond=ONEDNN)
