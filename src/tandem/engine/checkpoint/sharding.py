"""Which part of a model one rank runs: a range of layers and a slice of heads, columns, vocabulary.

A whole model is the shard that takes everything, so there is one code path. Slicing follows
Megatron-LM (Shoeybi et al., 2019): q/k/v and gate/up by output rows, o and down by input columns,
one all-reduce after each of the two. Experts come whole: each is on one rank.
"""

from __future__ import annotations

import msgspec

from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.layout import Axis, Division, TensorSpec
from tandem.errors import ConfigurationError


class Span(msgspec.Struct, frozen=True):
    """The half-open range [start, stop)."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def scaled(self, factor: int) -> Span:
        return Span(self.start * factor, self.stop * factor)

    def spread(self, every: int) -> Span:
        """From the first to the last, of which each is `every` from the one before."""
        first = self.start * every
        return Span(first, first + max(0, (len(self) - 1) * every + 1))

    def shifted(self, by: int) -> Span:
        return Span(self.start + by, self.stop + by)


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """One rank's part. `kv_heads` decides the query heads: its groups come whole."""

    layers: Span
    kv_heads: Span
    columns: Span
    experts: Span = Span(0, 0)
    shared_columns: Span = Span(0, 0)
    vocabulary: Span
    embeds: bool
    has_head: bool

    def part(self, spec: TensorSpec) -> tuple[Span | None, Span | None]:
        """The rows and the columns of a file's tensor that this rank holds; None: all of them.

        Where only each `place.every`th row is the tensor's, those between are in the span as well.
        """
        rows, place = self._span(spec.rows), spec.place
        if place is not None and place.rows != spec.shape[0]:
            rows = (rows or Span(0, spec.shape[0])).spread(place.every).shifted(place.first_row)
        return rows, self._span(spec.columns)

    def _span(self, division: Division | None) -> Span | None:
        if division is None:
            return None
        spans = {
            Axis.KV_HEADS: self.kv_heads,
            Axis.COLUMNS: self.columns,
            Axis.SHARED_COLUMNS: self.shared_columns,
            Axis.VOCABULARY: self.vocabulary,
        }
        return spans[division.axis].scaled(division.each)


def whole(config: ModelConfig) -> Shard:
    return Shard(
        layers=Span(0, config.num_layers),
        kv_heads=Span(0, config.num_kv_heads),
        columns=Span(0, config.intermediate_size),
        experts=Span(0, config.num_experts),
        shared_columns=Span(0, config.shared_columns),
        vocabulary=Span(0, config.vocab_size),
        embeds=True,
        has_head=True,
    )


def tensor_parallel(config: ModelConfig, rank: int, size: int) -> Shard:
    """Rank's equal share of heads, MLP columns, experts and vocabulary, in every layer.

    Raises ConfigurationError when the KV heads do not divide by `size`.
    """
    if config.num_kv_heads % size:
        raise ConfigurationError(
            f"{config.num_kv_heads} KV heads do not divide among {size} tensor-parallel ranks"
        )
    share = msgspec.structs.replace(
        whole(config),
        kv_heads=split(config.num_kv_heads, rank, size),
        columns=split(config.intermediate_size, rank, size),
        experts=split(config.num_experts, rank, size),
        shared_columns=split(config.shared_columns, rank, size),
        vocabulary=split(config.vocab_size, rank, size),
    )
    if not share.columns or not share.vocabulary:
        raise ConfigurationError(f"the model is too small to divide among {size} ranks")
    return share


def pipeline_stage(config: ModelConfig, layers: Span) -> Shard:
    """A run of whole layers; the first stage embeds, the last one has the head.

    Raises ConfigurationError when the range is empty or outside the model.
    """
    if not 0 <= layers.start < layers.stop <= config.num_layers:
        raise ConfigurationError(
            f"layers {layers.start}..{layers.stop} are not a part of {config.num_layers} layers"
        )
    return msgspec.structs.replace(
        whole(config),
        layers=layers,
        embeds=layers.start == 0,
        has_head=layers.stop == config.num_layers,
    )


def split(extent: int, rank: int, size: int) -> Span:
    """Rank's contiguous share of `extent`; shares differ by one at most."""
    return Span(extent * rank // size, extent * (rank + 1) // size)
