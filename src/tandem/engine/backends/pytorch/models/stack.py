"""What all decoders do: embed, run a shard's blocks, give logits. A family's block goes in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch

from tandem.engine.backends.pytorch.layers.batch import StepBatch
from tandem.engine.backends.pytorch.layers.kv_cache import KVCache, LayerCache
from tandem.engine.backends.pytorch.layers.norm import Norm
from tandem.engine.backends.pytorch.layers.rotary import RotarySlots
from tandem.engine.backends.pytorch.loader import ShardLoader
from tandem.engine.checkpoint import layout
from tandem.engine.checkpoint.layout import DecoderTensors
from tandem.engine.core.communicator import Communicator
from tandem.engine.families.llama import LlamaConfig


class Block(Protocol):
    """One layer."""

    def __call__(
        self, states: torch.Tensor, batch: StepBatch, step: RotarySlots, cache: LayerCache
    ) -> torch.Tensor:
        """(rows, hidden) → (rows, hidden); the new keys and values are in the cache then."""
        ...


class BlockMaker(Protocol):
    """Loads layer `number`. Raises CheckpointError."""

    def __call__(
        self,
        config: Any,  # noqa: ANN401 - of the family that the model belongs to
        layer: Any,  # noqa: ANN401
        number: int,
        loader: ShardLoader,
        group: Communicator[torch.Tensor],
    ) -> Block: ...


class Stack:
    """`tandem.engine.backends.pytorch.models.Decoder` of any family's blocks."""

    def __init__(
        self,
        config: LlamaConfig,
        tensors: DecoderTensors[Any],
        loader: ShardLoader,
        group: Communicator[torch.Tensor],
        on_layer: Callable[[], None],
        *,
        block: BlockMaker,
        norm: Callable[[Any, layout.Norm, ShardLoader], Norm],
    ) -> None:
        """`norm` makes that of the last layer's states."""
        self._rotary = loader.rotary(config.ropes)
        self._vocabulary = loader.vocabulary(tensors, group)
        # As the reference implementations have it: of the states' dtype, for all that it loses.
        scale = torch.tensor(config.embedding_scale, dtype=loader.dtype, device=loader.device)
        self._embedding_scale = None if config.embedding_scale == 1.0 else scale
        self._logit_scale, self._logit_softcap = config.logit_scale, config.logit_softcap
        self._blocks = []
        for number in range(loader.shard.layers.start, loader.shard.layers.stop):
            self._blocks.append(block(config, tensors.layers[number], number, loader, group))
            on_layer()
        self._norm = norm(config, tensors.final_norm, loader) if loader.shard.has_head else None

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        states = self._vocabulary.embed(tokens)
        return states if self._embedding_scale is None else states * self._embedding_scale

    def forward(self, states: torch.Tensor, batch: StepBatch, cache: KVCache) -> torch.Tensor:
        steps = self._rotary.of_step(batch)
        for block, step, layer in zip(self._blocks, steps, cache.layers, strict=True):
            states = block(states, batch, step, layer)
        return states

    def logits(self, states: torch.Tensor) -> torch.Tensor | None:
        assert self._norm is not None, "this shard has no head"
        logits = self._vocabulary.logits(self._norm(states))
        if logits is None:
            return None
        if self._logit_scale != 1.0:
            logits = logits * self._logit_scale
        cap = self._logit_softcap
        return logits if cap is None else (logits / cap).tanh_().mul_(cap)
