"""Grouped-query attention over a paged KV cache.

The cache of a layer is (blocks, block_size, kv_heads, head_dim). A step's sequences are grouped:
all that decode form one group, each that prefills is a group of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels.operators import (
    IntArray,
    LayerCache,
    attend_paged,
    takes,
)
from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.sharding import Shard
from tandem.engine.core.step import SequenceStep

#: Reading blocks where they are is for one core; more of them gather and pad together in less time.
_PAGED_THREADS = 2


class KVCache:
    """Keys and values of the shard's layers and heads, in blocks that the scheduler hands out."""

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
        return attend_paged(queries, cache, self.tables, self.spans[window])


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


@dataclass(frozen=True)
class StepBatch:
    """A step as tensors, shared by every layer."""

    tokens: torch.Tensor  # int64 (rows,)
    positions: torch.Tensor  # int64 (rows,)
    slots: torch.Tensor  # int64 (rows,): block * block_size + offset of each new token
    groups: tuple[Group, ...]
    sampled_rows: torch.Tensor  # int64: the last row of each sequence that samples


class BatchBuilder:
    """Turns a plan's sequences into tensors."""

    def __init__(
        self,
        config: ModelConfig,
        shard: Shard,
        block_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self._fold = config.num_heads // config.num_kv_heads
        first, last = shard.layers.start, shard.layers.stop
        self._windows = frozenset(config.sliding_windows[first:last])
        self._block_size = block_size
        self._dtype = dtype
        self._device = device
        few = torch.get_num_threads() <= _PAGED_THREADS
        self._pages = few and takes(dtype, device)

    def order(self, sequences: Sequence[SequenceStep]) -> list[SequenceStep]:
        """Those that decode first, so that they are adjacent rows."""
        return sorted(sequences, key=lambda sequence: len(sequence.tokens) > 1)

    def build(self, ordered: Sequence[SequenceStep]) -> StepBatch:
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        sampled: list[int] = []
        for sequence in ordered:
            tokens += sequence.tokens
            for position in range(sequence.start, sequence.start + len(sequence.tokens)):
                block = sequence.blocks[position // self._block_size]
                positions.append(position)
                slots.append(block * self._block_size + position % self._block_size)
            if sequence.sample is not None:
                sampled.append(len(tokens) - 1)
        return StepBatch(
            tokens=self._tensor(tokens),
            positions=self._tensor(positions),
            slots=self._tensor(slots),
            groups=tuple(self._groups(ordered)),
            sampled_rows=self._tensor(sampled),
        )

    def _groups(self, ordered: Sequence[SequenceStep]) -> list[Group]:
        decoding = [sequence for sequence in ordered if len(sequence.tokens) == 1]
        groups = [self._group(0, decoding)] if decoding else []
        start = len(decoding)
        for sequence in ordered[len(decoding) :]:
            groups.append(self._group(start, [sequence]))
            start += len(sequence.tokens)
        return groups

    def _group(self, start: int, members: Sequence[SequenceStep]) -> Group:
        length = len(members[0].tokens)
        rows = slice(start, start + len(members) * length)
        used = [-(-(member.start + length) // self._block_size) for member in members]
        longest = max(used)
        tables = [
            [*member.blocks[:count], *[0] * (longest - count)]
            for member, count in zip(members, used, strict=True)
        ]
        starts = [member.start for member in members]
        if length == 1 and self._pages:
            spans = {window: _spans(starts, window) for window in self._windows}
            return PagedGroup(rows, np.array(tables), spans)
        queries = self._tensor(starts)[:, None] + torch.arange(length, device=self._device)
        context = longest * self._block_size
        return PaddedGroup(
            rows,
            batch=len(members),
            length=length,
            tables=self._tensor(tables).flatten(),
            masks={window: self._mask(queries, context, window) for window in self._windows},
        )

    def _mask(self, queries: torch.Tensor, context: int, window: int | None) -> torch.Tensor:
        """0 where a query at q may see key k (q - window < k <= q), else minus infinity."""
        keys = torch.arange(context, device=self._device)
        visible = keys <= queries[..., None]
        if window is not None:
            visible &= keys > queries[..., None] - window
        mask = torch.zeros(visible.shape, dtype=self._dtype, device=self._device)
        mask.masked_fill_(~visible, float("-inf"))
        batch, length, _ = visible.shape
        folded = mask[:, None].expand(batch, self._fold, length, context)
        return folded.reshape(batch, 1, self._fold * length, context)

    def _tensor(self, values: Sequence[int] | Sequence[Sequence[int]]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)


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


def _spans(positions: Sequence[int], window: int | None) -> IntArray:
    first = [0 if window is None else max(0, position + 1 - window) for position in positions]
    return np.array([first, [position + 1 for position in positions]]).T.copy()
