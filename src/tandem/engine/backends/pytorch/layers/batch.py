"""A step's sequences as the tensors that all layers share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from tandem.engine.backends.pytorch.kernels.arrays import IntArray, has_loops
from tandem.engine.backends.pytorch.layers.groups import Gathered, Group, PaddedGroup, PagedGroup
from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.sharding import Shard
from tandem.engine.core.step import SequenceStep

#: Reading blocks where they are is for one core; more of them gather and pad together in less time.
_PAGED_THREADS = 2


@dataclass(frozen=True)
class StepBatch:
    """A step as tensors, shared by every layer."""

    tokens: torch.Tensor  # int64 (rows,)
    positions: torch.Tensor  # int64 (rows,)
    slots: torch.Tensor  # int64 (rows,): block * block_size + offset of each new token
    groups: tuple[Group, ...]
    sampled_rows: (
        torch.Tensor
    )  # int64: the last row of each sequence that samples, and its drafts' before


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
        self._shared_fold = self._fold if config.latent is None else len(shard.kv_heads)
        first, last = shard.layers.start, shard.layers.stop
        self._windows = frozenset(config.sliding_windows[first:last])
        self._block_size = block_size
        self._dtype = dtype
        self._device = device
        one_core = torch.get_num_threads() <= _PAGED_THREADS
        self._pages = one_core and has_loops(dtype, device)

    def order(self, sequences: Sequence[SequenceStep]) -> list[SequenceStep]:
        """Those that decode first, so that they are adjacent rows; as many tokens together."""
        return sorted(sequences, key=lambda one: len(one.tokens) if _decodes(one) else math.inf)

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
                sampled += range(len(tokens) - 1 - sequence.drafts, len(tokens))
        return StepBatch(
            tokens=self._tensor(tokens),
            positions=self._tensor(positions),
            slots=self._tensor(slots),
            groups=tuple(self._groups(ordered)),
            sampled_rows=self._tensor(sampled),
        )

    def _groups(self, ordered: Sequence[SequenceStep]) -> Iterator[Group]:
        start = 0
        for members in self._together(ordered):
            rows = slice(start, start + sum(len(member.tokens) for member in members))
            if self._pages and _decodes(members[0]):
                yield self._paged(rows, members)
            else:
                yield self._padded(rows, members)
            start = rows.stop

    def _together(self, ordered: Sequence[SequenceStep]) -> Iterator[list[SequenceStep]]:
        """Those that decode, of one length where they are padded, and each other by itself."""
        decoding = [sequence for sequence in ordered if _decodes(sequence)]
        for _, members in groupby(decoding, lambda one: self._pages or len(one.tokens)):
            yield list(members)
        yield from ([sequence] for sequence in ordered[len(decoding) :])

    def _paged(self, rows: slice, members: Sequence[SequenceStep]) -> PagedGroup:
        """Each token is a row with its own end: it sees none of the guesses behind it."""
        tables = np.repeat(self._tables(members), [len(one.tokens) for one in members], axis=0)
        positions = [one.start + number for one in members for number in range(len(one.tokens))]
        spans = {window: _spans(positions, window) for window in self._windows}
        return PagedGroup(rows, tables, spans)

    def _padded(self, rows: slice, members: Sequence[SequenceStep]) -> PaddedGroup:
        length, tables = len(members[0].tokens), self._tables(members)
        fold = self._shared_fold if _decodes(members[0]) else self._fold
        starts = self._tensor([member.start for member in members])
        queries = starts[:, None] + torch.arange(length, device=self._device)
        earliest = min(member.start for member in members)
        gathered = {}
        for window in self._windows:
            first = 0 if window is None else max(0, earliest + 1 - window) // self._block_size
            seen = torch.from_numpy(tables[:, first:].flatten()).to(self._device)
            keys = range(first * self._block_size, tables.shape[1] * self._block_size)
            gathered[window] = Gathered(seen, self._mask(queries, keys, window, fold))
        return PaddedGroup(rows, batch=len(members), length=length, fold=fold, gathered=gathered)

    def _tables(self, members: Sequence[SequenceStep]) -> IntArray:
        """(members, blocks): those that are read, padded with block 0."""
        used = [-(-(one.start + len(one.tokens)) // self._block_size) for one in members]
        longest = max(used)
        tables = [
            [*member.blocks[:count], *[0] * (longest - count)]
            for member, count in zip(members, used, strict=True)
        ]
        return np.array(tables, dtype=np.int64)

    def _mask(
        self, queries: torch.Tensor, positions: range, window: int | None, fold: int
    ) -> torch.Tensor:
        """0 where a query at q may see key k (q - window < k <= q), else minus infinity."""
        keys = torch.arange(positions.start, positions.stop, device=self._device)
        visible = keys <= queries[..., None]
        if window is not None:
            visible &= keys > queries[..., None] - window
        mask = torch.zeros(visible.shape, dtype=self._dtype, device=self._device)
        mask.masked_fill_(~visible, float("-inf"))
        batch, length, context = visible.shape
        folded = mask[:, None].expand(batch, fold, length, context)
        return folded.reshape(batch, 1, fold * length, context)

    def _tensor(self, values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)


def _decodes(sequence: SequenceStep) -> bool:
    """Its last token and the guesses behind it; not a part of a prompt."""
    return len(sequence.tokens) == 1 + sequence.drafts


def _spans(positions: Sequence[int], window: int | None) -> IntArray:
    first = [0 if window is None else max(0, position + 1 - window) for position in positions]
    return np.array([first, [position + 1 for position in positions]]).T.copy()
