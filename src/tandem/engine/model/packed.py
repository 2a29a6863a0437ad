"""bfloat16 weights in the blocks that oneDNN reads fastest, and how few rows go through them best.

The blocks can be read without oneDNN where their order is the known one: for the embedding that
shares its weight with the head, and for single rows, which oneDNN multiplies slowly on some CPUs.
"""

from __future__ import annotations

import ctypes
from functools import cache, partial

import numpy as np
import numpy.typing as npt
import torch

from tandem.engine.model.compiled import TILE_PAIRS, TILE_ROWS
from tandem.engine.model.fastest import Way, fastest, probe_weights
from tandem.engine.model.operators import Results, multiply_one

#: PyTorch's own compiler calls these; they have no public name.
_mkldnn = torch.ops.mkldnn
#: For which oneDNN chooses its blocks; it takes any number.
_USUAL_ROWS = 16
#: With fewer rows oneDNN is slower than with so many on some CPUs.
_FULL_ROWS = 4
#: How fewer rows than that are multiplied.
AS_THEY_ARE, FILLED_UP, COMPILED = "as they are", "filled up", "compiled"

Tiles = npt.NDArray[np.int32]


class PackedWeight:
    """A bfloat16 (out_features, in_features) matrix on the CPU."""

    def __init__(self, weight: torch.Tensor) -> None:
        self.blocks = _mkldnn._reorder_linear_weight(weight, _USUAL_ROWS)  # noqa: SLF001
        self.shape = weight.shape
        #: int32 pairs of inputs, (outputs / 64, inputs / 32, 16, 64); None in an unknown order.
        self.tiles = _tiles(self.blocks, weight)

    @staticmethod
    def is_fast() -> bool:
        supported: bool = _mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001
        return supported

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        """(n,) → (n, in_features), where `tiles` are known."""
        assert self.tiles is not None, "rows can be found where the order of tiles is known"
        row, output = np.divmod(indices.numpy(), TILE_ROWS)
        pairs = torch.from_numpy(self.tiles[row, :, :, output])
        return pairs.view(torch.bfloat16).reshape(len(indices), self.shape[1])


class PackedLinear:
    def __init__(self, weight: PackedWeight, bias: torch.Tensor | None) -> None:
        self._weight = weight
        self._bias = bias
        self._results = Results()
        for count in (1, 2):
            _way_of_few(count, torch.get_num_threads())  # races while nobody waits for an answer

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        count, tiles = len(states), self._weight.tiles
        if count >= _FULL_ROWS:
            return _multiply(states, self._weight, self._bias)
        # Two rows and three are alike, and so is one that cannot be compiled.
        way = _way_of_few(2 if tiles is None else min(count, 2), torch.get_num_threads())
        if way == COMPILED and tiles is not None:
            product = multiply_one(states, tiles, self._results)
            return product if self._bias is None else product + self._bias
        if way == FILLED_UP:
            filled = states.new_zeros((_FULL_ROWS, states.shape[1]))
            filled[:count] = states
            return _multiply(filled, self._weight, self._bias)[:count]
        return _multiply(states, self._weight, self._bias)


@cache
def _way_of_few(count: int, threads: int) -> str:  # noqa: ARG001 - the race runs on so many
    weights = [PackedWeight(probe) for probe in probe_weights()]
    states = torch.ones((_FULL_ROWS, weights[0].shape[1]), dtype=torch.bfloat16)
    ways: dict[str, list[Way]] = {}
    tiles = [weight.tiles for weight in weights if weight.tiles is not None]
    if count == 1 and tiles:
        ways[COMPILED] = [partial(multiply_one, states[:1], one, Results()) for one in tiles]
    ways[FILLED_UP] = [partial(_multiply, states, weight, None) for weight in weights]
    ways[AS_THEY_ARE] = [partial(_multiply, states[:count], weight, None) for weight in weights]
    return fastest(f"bfloat16 rows: {count}", ways)


def _multiply(
    states: torch.Tensor, weight: PackedWeight, bias: torch.Tensor | None
) -> torch.Tensor:
    product: torch.Tensor = _mkldnn._linear_pointwise(  # noqa: SLF001
        states, weight.blocks, bias, "none", [], ""
    )
    return product


def _tiles(blocks: torch.Tensor, weight: torch.Tensor) -> Tiles | None:
    """The blocks' own memory, if the first and the last tiles hold what they should."""
    outputs, inputs = weight.shape
    if outputs % TILE_ROWS or inputs % (2 * TILE_PAIRS):
        return None
    memory = (ctypes.c_int32 * (weight.numel() // 2)).from_address(_mkldnn.data_ptr(blocks))
    shape = (outputs // TILE_ROWS, inputs // (2 * TILE_PAIRS), TILE_PAIRS, TILE_ROWS)
    tiles = np.ctypeslib.as_array(memory).reshape(shape)
    pairs = weight.contiguous().view(torch.int32).numpy().reshape(-1, TILE_ROWS, *shape[1:3])
    ends = [0, -1]
    known = np.array_equal(tiles[ends], pairs[ends].transpose(0, 2, 3, 1))
    return tiles if known else None
