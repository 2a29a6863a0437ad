"""The paged KV cache: keys and values in blocks that the scheduler hands out.

How many blocks there are is decided in `engine.load`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from tandem.engine.backends.pytorch.dtypes import DTYPES
from tandem.engine.backends.pytorch.kernels.arrays import as_array, has_loops
from tandem.engine.backends.pytorch.kernels.compiled import Kept
from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.dtypes import CacheFormat
from tandem.engine.checkpoint.sharding import Shard

Scales = npt.NDArray[np.float32]
_LARGEST = 127
_NO_SCALES = np.empty((0, 0, 0), np.float32)


class Stored:
    """Keys or values of one layer, (blocks, block_size, kv_heads, head_dim).

    With `scales`, float32 (blocks, block_size, kv_heads), numbers are int8 times their head's.
    Without, they may be of another dtype than what is kept.
    """

    def __init__(self, numbers: torch.Tensor, scales: torch.Tensor | None = None) -> None:
        self.numbers, self.scales = numbers, scales

    def put(self, slots: torch.Tensor, new: torch.Tensor) -> None:
        """Keeps (rows, kv_heads, head_dim) in slots, of which a block has as many as tokens."""
        if self.scales is not None:
            scales = new.float().abs().amax(dim=-1) / _LARGEST
            new = (new.float() / scales.clamp(min=1e-30)[..., None]).round().to(torch.int8)
            self.scales.view(-1, self.scales.shape[-1]).index_copy_(0, slots, scales)
        numbers = self.numbers.view(-1, *self.numbers.shape[2:])
        numbers.index_copy_(0, slots, new.to(numbers.dtype))

    def blocks(self, index: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The named blocks as numbers of that type."""
        found = self.numbers.index_select(0, index)
        if self.scales is None:
            return found.to(dtype)
        return (found * self.scales.index_select(0, index)[..., None]).to(dtype)

    def clear(self, blocks: torch.Tensor) -> None:
        self.numbers[blocks] = 0
        if self.scales is not None:
            self.scales[blocks] = 0

    def arrays(self) -> tuple[Kept, Scales]:
        if self.scales is None:
            return as_array(self.numbers), _NO_SCALES
        return self.numbers.numpy(), self.scales.numpy()


class LayerCache:
    """Keys and values of one layer; `arrays` are keys, values and their scales, for loops.

    Values may be of fewer numbers than what is stored for them, `value_width` of them: those that
    keys begin with, where the keys themselves are stored for values.
    """

    def __init__(self, keys: Stored, values: Stored, *, value_width: int | None = None) -> None:
        self.keys, self.values = keys, values
        self.kv_heads, self.value_width = keys.numbers.shape[2], values.numbers.shape[3]
        if value_width is not None:
            self.value_width = value_width
        self.arrays: tuple[Kept, Kept, Scales, Scales] | None = None
        floats = keys.numbers if keys.scales is None else keys.scales
        if has_loops(floats.dtype, floats.device):
            (first, first_scales), (second, second_scales) = keys.arrays(), values.arrays()
            self.arrays = first, second, first_scales, second_scales


class KVCache:
    """The cache of a shard's layers and heads."""

    def __init__(
        self,
        config: ModelConfig,
        shard: Shard,
        *,
        blocks: int,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
        kept: CacheFormat | None = None,
    ) -> None:
        """Numbers of `dtype`, unless they are `kept` otherwise; a latent once for all heads."""
        latent = config.latent
        head = (len(shard.kv_heads), config.head_dim) if latent is None else (1, latent.width)
        shape = (blocks, block_size, *head)
        self.block_size = block_size
        self._device = device

        # Zeros, not empty: padding reads blocks that were never written, and 0 * NaN is NaN.
        def stored() -> Stored:
            if kept is not CacheFormat.INT8:
                plain = dtype if kept is None else DTYPES[kept]
                return Stored(torch.zeros(shape, dtype=plain, device=device))
            numbers = torch.zeros(shape, dtype=torch.int8, device=device)
            return Stored(numbers, torch.zeros(shape[:-1], device=device))

        def layer() -> LayerCache:
            keys = stored()
            if latent is None:
                return LayerCache(keys, stored())
            return LayerCache(keys, keys, value_width=latent.rank)

        self.layers = [layer() for _ in range(len(shard.layers))]

    def clear(self, blocks: Sequence[int]) -> None:
        """Zeroes blocks that held numbers that were not finite."""
        if not blocks:
            return
        index = torch.tensor(blocks, device=self._device)
        for layer in self.layers:
            layer.keys.clear(index)
            layer.values.clear(index)
