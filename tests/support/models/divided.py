"""A model in one process, driven by hand: whole, or divided among ranks that share its memory."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import torch
from tests.support.ranks import together

from tandem.engine import CacheFormat, EngineOptions, ModelSetup, prepare
from tandem.engine.backends.pytorch.backend import load_model
from tandem.engine.backends.pytorch.dtypes import DTYPES
from tandem.engine.backends.pytorch.layers.batch import BatchBuilder
from tandem.engine.backends.pytorch.layers.kv_cache import KVCache
from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.sharding import (
    Shard,
    pipeline_stage,
    split,
    tensor_parallel,
    whole,
)
from tandem.engine.core.communicator import Communicator, Solo
from tandem.engine.core.step import SampleSpec, SequenceStep

BLOCK, BLOCKS = 4, 64
_DEADLINE_S = 60.0

Part = tuple[list[int], int, list[int]]
"""Tokens of a sequence, the position of the first one, and the sequence's blocks."""


class _Table:
    """Where the ranks of a group lay their tensors, and take the others'."""

    def __init__(self, ranks: int) -> None:
        self._laid: list[torch.Tensor] = [torch.empty(0)] * ranks
        self._barrier = threading.Barrier(ranks, timeout=_DEADLINE_S)

    def all_of(self, rank: int, tensor: torch.Tensor) -> list[torch.Tensor]:
        self._laid[rank] = tensor
        self._barrier.wait()
        laid = [part.clone() for part in self._laid]
        self._barrier.wait()
        return laid

    def leave(self) -> None:
        """The others wait for this rank no longer."""
        self._barrier.abort()


class _Seat:
    """`tandem.engine.core.communicator.Communicator` of a rank at a table."""

    def __init__(self, table: _Table, rank: int, size: int) -> None:
        self._table, self.rank, self.size = table, rank, size

    def begin(self, step: int) -> None:
        """All take the same steps."""

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.stack(self._table.all_of(self.rank, tensor)).sum(dim=0)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor | None:
        parts = self._table.all_of(self.rank, tensor)
        return torch.cat(parts, dim=-1) if self.rank == 0 else None


class Rank:
    """A shard with its cache."""

    def __init__(self, setup: ModelSetup, shard: Shard, group: Communicator[torch.Tensor]) -> None:
        config, dtype, device = setup.config, DTYPES[setup.dtype], torch.device("cpu")
        context = min(config.context_length, BLOCKS * BLOCK)
        self.model = load_model(setup, shard, group, context)
        self.cache = KVCache(
            config,
            shard,
            blocks=BLOCKS,
            block_size=BLOCK,
            dtype=dtype,
            device=device,
            kept=setup.options.kv_cache,
        )
        self.builder = BatchBuilder(config, shard, BLOCK, dtype, device)
        self.shard = shard

    @torch.inference_mode()
    def forward(
        self, steps: Sequence[SequenceStep], states: torch.Tensor | None
    ) -> torch.Tensor | None:
        """States after the shard's layers, logits where it has the head."""
        batch = self.builder.build(self.builder.order(steps))
        if states is None:
            states = self.model.embed(batch.tokens)
        states = self.model.forward(states, batch, self.cache)
        return self.model.logits(states) if self.shard.has_head else states


class Runner:
    """`way` is `alone`, `tp2` or `tp3` for ranks that share each layer, `pp2` for a pipeline."""

    def __init__(
        self,
        directory: Path,
        way: str = "alone",
        *,
        dtype: str = "float32",
        kv_cache: CacheFormat | None = None,
    ) -> None:
        # Several threads would wait for each other longer than such small products take.
        options = EngineOptions(
            directory=directory, dtype=dtype, device="cpu", threads=1, kv_cache=kv_cache
        )
        setup = prepare(options)
        config = setup.config
        self.vocabulary = config.vocab_size
        if way.startswith("tp"):
            size = int(way[2:])
            self._table = _Table(size)
            shards = [tensor_parallel(config, rank, size) for rank in range(size)]
            seats = [_Seat(self._table, rank, size) for rank in range(size)]
            self.ranks = [Rank(setup, *both) for both in zip(shards, seats, strict=True)]
            self._forward = self._side_by_side
        else:
            stages = _stages(config, 2) if way == "pp2" else [whole(config)]
            self.ranks = [Rank(setup, shard, Solo()) for shard in stages]
            self._forward = self._one_after_the_other

    def step(self, *parts: Part) -> torch.Tensor:
        """Logits of every row of the parts, in the given order."""
        steps = [
            SequenceStep(index, tokens, start, blocks, SampleSpec(0))
            for index, (tokens, start, blocks) in enumerate(parts)
        ]
        logits = self._forward(steps)
        rows, first = {}, 0
        for item in self.ranks[0].builder.order(steps):
            rows[item.sequence_id] = logits[first : first + len(item.tokens)]
            first += len(item.tokens)
        return torch.cat([rows[index] for index in range(len(parts))])

    def _one_after_the_other(self, steps: Sequence[SequenceStep]) -> torch.Tensor:
        states: torch.Tensor | None = None
        for rank in self.ranks:
            states = rank.forward(steps, states)
        assert states is not None
        return states

    def _side_by_side(self, steps: Sequence[SequenceStep]) -> torch.Tensor:
        found: dict[int, torch.Tensor | None] = {}

        def work(number: int) -> None:
            try:
                found[number] = self.ranks[number].forward(steps, None)
            except BaseException:
                self._table.leave()
                raise

        together(work, len(self.ranks))
        logits = found[0]
        assert logits is not None
        assert all(found[number] is None for number in range(1, len(self.ranks)))
        return logits


def _stages(config: ModelConfig, count: int) -> list[Shard]:
    return [pipeline_stage(config, split(config.num_layers, rank, count)) for rank in range(count)]
