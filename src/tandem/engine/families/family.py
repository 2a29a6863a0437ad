"""What a model family states about itself, whatever computes it: its config, tensors and cost."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import msgspec

from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.dtypes import CacheFormat, head_bytes
from tandem.engine.checkpoint.layout import DecoderTensors, Layer, WeightBytes, specs_of
from tandem.engine.checkpoint.renamed import Beginnings

Config = TypeVar("Config", bound=ModelConfig)


class Size(msgspec.Struct, frozen=True):
    """How large a model with random weights is to be; counts of elements."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int = 4096
    experts: int = 8
    experts_per_token: int = 2
    expert_columns: int = 48


class Family(ABC, Generic[Config, Layer]):
    """Stateless. A backend computes it by the module of its `models` that is called `model`.

    `name` is the family's own, `model_type` in `config.json`. Tensors whose names end in one of
    `ignored_tensors` may be in a checkpoint and are not read; `renamed` has what names in files
    begin with where `tensors` calls them otherwise.
    """

    name: str
    model: str
    ignored_tensors: tuple[str, ...] = ()
    renamed: Beginnings = MappingProxyType({})

    @abstractmethod
    def read_config(self, architecture: str, directory: Path) -> Config:
        """Raises CheckpointError for whatever the layers can't compute, naming the field."""

    @abstractmethod
    def tensors(self, config: Config) -> DecoderTensors[Layer]:
        """The one list: loading goes by it, checkpoints are checked against it, costs counted."""

    @abstractmethod
    def example_config(self, size: Size) -> dict[str, Any]:
        """This family's own fields of a `config.json` for a model with random weights."""

    def ignored(self, config: Config) -> tuple[str, ...]:  # noqa: ARG002
        """What names of tensors begin or end with that a checkpoint may have and that aren't read.

        A beginning ends in a dot.
        """
        return self.ignored_tensors

    def config_file(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A `config.json` of such fields."""
        return fields

    def layer_bytes(self, config: Config, weights: WeightBytes) -> list[int]:
        """The weights of each layer."""
        return [sum(map(weights.of, specs_of(layer))) for layer in self.tensors(config).layers]

    def read_bytes(self, config: Config, weights: WeightBytes) -> list[int]:
        """What of each layer's weights one token reads."""
        return self.layer_bytes(config, weights)

    def kv_bytes_per_token(
        self, config: Config, dtype: str, kept: CacheFormat | None = None
    ) -> int:
        """Bytes that the cache takes for one token of context, in all layers."""
        if config.latent is not None:
            return config.num_layers * head_bytes(config.latent.width, dtype, kept)
        each = head_bytes(config.head_dim, dtype, kept)
        return 2 * config.num_layers * config.num_kv_heads * each
