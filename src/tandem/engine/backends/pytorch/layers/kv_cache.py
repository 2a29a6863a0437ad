"""The paged KV cache: keys and values in blocks that the scheduler hands out.

How many blocks there are is decided in `engine.load`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tandem.engine.backends.pytorch.kernels.arrays import as_array, has_loops
from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.sharding import Shard


class LayerCache:
    """Keys and values of one layer, (blocks, block_size, kv_heads, head_dim) each."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        self.keys, self.values = keys, values
        readable = has_loops(keys.dtype, keys.device)
        self.arrays = (as_array(keys), as_array(values)) if readable else None


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
    ) -> None:
        shape = (blocks, block_size, len(shard.kv_heads), config.head_dim)
        self.block_size = block_size
        # Zeros, not empty: padding reads blocks that were never written, and 0 * NaN is NaN.
        self.layers = [
            LayerCache(*(torch.zeros(shape, dtype=dtype, device=device) for _ in range(2)))
            for _ in range(len(shard.layers))
        ]

    def clear(self, blocks: Sequence[int]) -> None:
        """Zeroes blocks that held numbers that were not finite."""
        if not blocks:
            return
        index = torch.tensor(blocks, device=self.layers[0].keys.device)
        for layer in self.layers:
            layer.keys[index] = 0
            layer.values[index] = 0
