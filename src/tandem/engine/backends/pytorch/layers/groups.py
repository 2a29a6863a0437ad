"""Attention over a paged KV cache: a step's sequences in groups that are computed together.

All that decode form one group, each that prefills is a group of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch.nn import functional

from tandem.engine.backends.pytorch.kernels import compiled
from tandem.engine.backends.pytorch.kernels.arrays import IntArray, ResultBuffer, as_array
from tandem.engine.backends.pytorch.layers.kv_cache import LayerCache, Stored

#: So many scores are in memory at once, in float32, where PyTorch has no kernel that keeps none.
_MOST_SCORES = 2**24


@dataclass(frozen=True)
class Scoring:
    """How a layer's products of queries and keys become weights.

    They are multiplied by `scale`, 1 / sqrt(head_dim) if None, and kept within `softcap` by a tanh,
    if there is one. A query sees the last `window` tokens, all of them if None. `sinks`, float32
    (heads,), are products with a key that has no value, one for each head.
    """

    window: int | None = None
    scale: float | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None


class Group(Protocol):
    """Sequences of a step that are computed together; `rows` are theirs."""

    @property
    def rows(self) -> slice: ...

    def attend(
        self,
        queries: torch.Tensor,
        cache: LayerCache,
        scoring: Scoring,
        results: ResultBuffer | None = None,
    ) -> torch.Tensor:
        """Of `rows`, (n, heads, head_dim), over one layer's keys and values with the new ones.

        Returns (n, heads * value_width), which may be in memory of `results`.
        """
        ...


_NO_SINKS = torch.empty(0)


@dataclass(frozen=True)
class PagedGroup:
    """New tokens of sequences that decode, each a row, whose blocks are read where they are."""

    rows: slice
    tables: IntArray  # (n, blocks): the block tables, padded with block 0
    spans: dict[int | None, IntArray]  # window → (n, 2): first, and behind the last, position

    def attend(
        self,
        queries: torch.Tensor,
        cache: LayerCache,
        scoring: Scoring,
        results: ResultBuffer | None = None,
    ) -> torch.Tensor:
        assert cache.arrays is not None, "blocks are read in place where loops can read them"
        rows, heads, head_dim = queries.shape
        attended = (results or ResultBuffer()).empty((rows, heads * cache.value_width), queries)
        sinks = _NO_SINKS if scoring.sinks is None else scoring.sinks
        compiled.attend(
            as_array(queries),
            *cache.arrays,
            self.tables,
            self.spans[scoring.window],
            as_array(attended).reshape(rows, heads, cache.value_width),
            np.float32(scoring.scale or head_dim**-0.5),
            np.float32(scoring.softcap or 0.0),
            sinks.numpy(),
        )
        return attended


@dataclass(frozen=True)
class Gathered:
    """What layers of one window read of the sequences' blocks.

    `tables`, int64 (batch * blocks,), are the block tables from the first block that any of them
    sees, padded with block 0; `mask` is additive, (batch, 1, group * length, context).
    """

    tables: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True)
class PaddedGroup:
    """`batch` sequences of `length` new tokens each, their blocks gathered and padded.

    `fold` query heads of one KV head are folded into the query length, so keys and values are not
    repeated. Where a KV head has more, it is looked at as several that are the same.
    """

    rows: slice
    batch: int
    length: int
    fold: int
    gathered: dict[int | None, Gathered]  # by the window

    def attend(
        self,
        queries: torch.Tensor,
        cache: LayerCache,
        scoring: Scoring,
        results: ResultBuffer | None = None,  # noqa: ARG002 - PyTorch has its own
    ) -> torch.Tensor:
        keys = self.gather(cache.keys, scoring, queries.dtype)
        values = keys
        if cache.values is not cache.keys:
            values = self.gather(cache.values, scoring, queries.dtype)
        return self.over(queries, keys, values, scoring, cache.value_width)

    def gather(self, stored: Stored, scoring: Scoring, dtype: torch.dtype) -> torch.Tensor:
        """(batch, kv_heads, context, head_dim)."""
        blocks = stored.blocks(self.gathered[scoring.window].tables, dtype)
        return blocks.view(self.batch, -1, *blocks.shape[2:]).transpose(1, 2)

    def over(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scoring: Scoring,
        value_width: int,
    ) -> torch.Tensor:
        """As `attend`, over keys and values (batch, kv_heads, context, head_dim).

        Of what values give it returns the first `value_width` numbers.
        """
        rows, heads, head_dim = queries.shape
        fold = self.fold
        kv_heads = heads // fold
        folded = (
            queries.view(self.batch, self.length, kv_heads, fold, head_dim)
            .permute(0, 2, 3, 1, 4)
            .reshape(self.batch, kv_heads, fold * self.length, head_dim)
        )
        keys, values = (one.expand(-1, kv_heads, -1, -1) for one in (keys, values))
        mask = self.gathered[scoring.window].mask
        output = _weighted(folded, keys, values, mask, scoring)
        return (
            output.view(self.batch, kv_heads, fold, self.length, head_dim)
            .permute(0, 3, 1, 2, 4)[..., :value_width]
            .reshape(rows, heads * value_width)
        )


def _weighted(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    scoring: Scoring,
) -> torch.Tensor:
    """(batch, kv_heads, length, head_dim) queries, of which each sees what its `mask` lets it."""
    if scoring.softcap is None and scoring.sinks is None:
        return functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, scale=scoring.scale
        )
    batch, kv_heads, length, _ = queries.shape
    folded = None
    if scoring.sinks is not None:
        fold = len(scoring.sinks) // kv_heads
        folded = scoring.sinks.repeat_interleave(length // fold).view(kv_heads, length, 1)
    output = torch.empty_like(queries)
    for heads, rows in _portions(batch * keys.shape[2], kv_heads, length):
        scores = _scores(queries[:, heads, rows], keys[:, heads], scoring)
        scores += mask[:, :, rows]
        if folded is None:
            weights = torch.softmax(scores, dim=-1)
        else:
            weights = _beside_sinks(scores, folded[heads, rows])
        output[:, heads, rows] = weights @ values[:, heads].float()
    return output


def _portions(each: int, kv_heads: int, length: int) -> Iterator[tuple[slice, slice]]:
    """KV heads and rows whose scores are computed at once; a row of a head has `each` scores."""
    heads = max(1, min(kv_heads, _MOST_SCORES // (each * length)))
    rows = max(1, min(length, _MOST_SCORES // (each * heads)))
    for head in range(0, kv_heads, heads):
        for row in range(0, length, rows):
            yield slice(head, head + heads), slice(row, row + rows)


def _scores(queries: torch.Tensor, keys: torch.Tensor, scoring: Scoring) -> torch.Tensor:
    """float32."""
    scores = queries.float() @ keys.float().transpose(-1, -2)
    scores *= scoring.scale or queries.shape[-1] ** -0.5
    cap = scoring.softcap
    return scores if cap is None else scores.div_(cap).tanh_().mul_(cap)


def _beside_sinks(scores: torch.Tensor, sinks: torch.Tensor) -> torch.Tensor:
    """The softmax of each row's scores and its head's sink, whose own share is left out."""
    beside = torch.cat((scores, sinks.expand(len(scores), -1, -1, -1)), dim=-1)
    return torch.softmax(beside, dim=-1)[..., :-1]


def paged_attention(
    queries: torch.Tensor,
    cache: LayerCache,
    groups: Sequence[Group],
    scoring: Scoring,
    results: ResultBuffer | None = None,
) -> torch.Tensor:
    """Attention of each group over its own blocks.

    `queries` is (rows, heads, head_dim), `cache` one layer's keys and values, new tokens included;
    returns (rows, heads * value_width), in memory of `results` for a single row.
    """
    if len(groups) == 1:
        return groups[0].attend(queries, cache, scoring, results)
    return torch.cat([group.attend(queries[group.rows], cache, scoring) for group in groups])
