"""The decoders that PyTorch computes: one module each, made of shared layers.

A family names the module that computes it (`Family.model`), which calls its decoder `Model`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Protocol

import torch

from tandem.engine.backends.pytorch.layers.batch import StepBatch
from tandem.engine.backends.pytorch.layers.kv_cache import KVCache
from tandem.engine.backends.pytorch.loader import ShardLoader
from tandem.engine.checkpoint.layout import DecoderTensors
from tandem.engine.core.communicator import Communicator


class Decoder(Protocol):
    """A shard of a model: token ids or hidden states in, hidden states or logits out."""

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """(rows,) ids → (rows, hidden), on a shard that embeds."""
        ...

    def forward(self, states: torch.Tensor, batch: StepBatch, cache: KVCache) -> torch.Tensor:
        """Runs the shard's layers on (rows, hidden) states and writes the new keys and values."""
        ...

    def logits(self, states: torch.Tensor) -> torch.Tensor | None:
        """(rows, hidden) after the last layer → float32 (rows, vocabulary); None above rank 0."""
        ...


class DecoderMaker(Protocol):
    """Loads a shard; `on_layer` is called after each of its layers. Raises CheckpointError."""

    def __call__(
        self,
        config: Any,  # noqa: ANN401 - of the family that the model belongs to
        tensors: DecoderTensors[Any],
        loader: ShardLoader,
        group: Communicator[torch.Tensor],
        on_layer: Callable[[], None],
    ) -> Decoder: ...


#: Those that have been asked for, by their modules' names.
MODELS: dict[str, DecoderMaker] = {}


def find_model(name: str) -> DecoderMaker:
    if name not in MODELS:
        MODELS[name] = import_module(f"{__name__}.{name}").Model
    return MODELS[name]
