"""Grouped-query attention (Ainslie et al., 2023), whose heads tensor-parallel ranks share."""

from __future__ import annotations

import torch

from tandem.engine.backends.pytorch.kernels.arrays import ResultBuffer
from tandem.engine.backends.pytorch.layers.batch import StepBatch
from tandem.engine.backends.pytorch.layers.groups import Scoring, paged_attention
from tandem.engine.backends.pytorch.layers.kv_cache import LayerCache
from tandem.engine.backends.pytorch.layers.linear import Linear
from tandem.engine.backends.pytorch.layers.norm import HeadNorm
from tandem.engine.backends.pytorch.layers.rotary import RotarySlots, rotate_and_cache
from tandem.engine.core.communicator import Communicator


class Attention:
    """Project, rotate, keep, attend, project; summed over the ranks."""

    def __init__(
        self,
        qkv: Linear,
        output: Linear,
        group: Communicator[torch.Tensor],
        *,
        heads: int,
        kv_heads: int,
        scoring: Scoring,
        head_norm: HeadNorm | None = None,
        query_weight: torch.Tensor | None = None,
    ) -> None:
        """`qkv` gives this rank's queries, keys and values, `heads` and `kv_heads` of them.

        `query_weight`, (head_dim,), multiplies what has been rotated.
        """
        self._qkv = qkv
        self._output = output
        self._group = group
        self._heads = heads
        self._kv_heads = kv_heads
        self._scoring = scoring
        self._head_norm = head_norm
        self._query_weight = query_weight
        self._queries, self._attended = ResultBuffer(), ResultBuffer()

    def __call__(
        self, states: torch.Tensor, batch: StepBatch, step: RotarySlots, cache: LayerCache
    ) -> torch.Tensor:
        """(rows, hidden) → (rows, hidden); the new keys and values are in the cache then."""
        joined = self._qkv(states).view(len(states), self._heads + 2 * self._kv_heads, -1)
        if self._head_norm is not None:
            joined = self._head_norm(joined)
        queries = rotate_and_cache(joined, self._heads, step, cache, self._queries)
        if self._query_weight is not None:
            queries = queries * self._query_weight
        attended = paged_attention(queries, cache, batch.groups, self._scoring, self._attended)
        return self._group.all_reduce(self._output(attended))
