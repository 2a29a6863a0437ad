"""Attention over a paged KV cache: a step's sequences in groups that are computed together.

All that decode form one group, each that prefills is a group of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels import compiled
from tandem.engine.backends.pytorch.kernels.arrays import IntArray, as_array
from tandem.engine.backends.pytorch.layers.kv_cache import LayerCache


class Group(Protocol):
    """Sequences of a step that are computed together; `rows` are theirs."""

    @property
    def rows(self) -> slice: ...

    def attend(self, queries: torch.Tensor, cache: LayerCache, window: int | None) -> torch.Tensor:
        """Of `rows`, (n, heads, head_dim), over one layer's keys and values with the new ones.

        Returns (n, heads * head_dim).
        """
        ...


@dataclass(frozen=True)
class PagedGroup:
    """Sequences of one new token each, whose blocks are read where they are."""

    rows: slice
    tables: IntArray  # (batch, blocks): the block tables, padded with block 0
    spans: dict[int | None, IntArray]  # window → (batch, 2): first, and behind the last, position

    def attend(self, queries: torch.Tensor, cache: LayerCache, window: int | None) -> torch.Tensor:
        assert cache.arrays is not None, "blocks are read in place where loops can read them"
        attended = torch.empty_like(queries)
        compiled.attend(
            as_array(queries), *cache.arrays, self.tables, self.spans[window], as_array(attended)
        )
        return attended.view(len(queries), -1)


@dataclass(frozen=True)
class PaddedGroup:
    """`batch` sequences of `length` new tokens each, their blocks gathered and padded.

    Query heads of one KV head are folded into the query length, so keys and values are never
    repeated.
    """

    rows: slice
    batch: int
    length: int
    tables: torch.Tensor  # int64 (batch * blocks,): the block tables, padded with block 0
    masks: dict[int | None, torch.Tensor]  # window → additive (batch, 1, group * length, context)

    def attend(self, queries: torch.Tensor, cache: LayerCache, window: int | None) -> torch.Tensor:
        rows, heads, head_dim = queries.shape
        kv_heads = cache.keys.shape[2]
        fold = heads // kv_heads
        folded = (
            queries.view(self.batch, self.length, kv_heads, fold, head_dim)
            .permute(0, 2, 3, 1, 4)
            .reshape(self.batch, kv_heads, fold * self.length, head_dim)
        )

        def gather(stored: torch.Tensor) -> torch.Tensor:
            blocks = stored.index_select(0, self.tables)
            return blocks.view(self.batch, -1, kv_heads, head_dim).transpose(1, 2)

        keys, values = gather(cache.keys), gather(cache.values)
        output = functional.scaled_dot_product_attention(
            folded, keys, values, attn_mask=self.masks[window]
        )
        return (
            output.view(self.batch, kv_heads, fold, self.length, head_dim)
            .permute(0, 3, 1, 2, 4)
            .reshape(rows, heads * head_dim)
        )


def paged_attention(
    queries: torch.Tensor,
    cache: LayerCache,
    groups: Sequence[Group],
    window: int | None,
) -> torch.Tensor:
    """Attention of each group over its own blocks.

    `queries` is (rows, heads, head_dim), `cache` one layer's keys and values, new tokens included;
    returns (rows, heads * head_dim).
    """
    if len(groups) == 1:
        return groups[0].attend(queries, cache, window)
    return torch.cat([group.attend(queries[group.rows], cache, window) for group in groups])
