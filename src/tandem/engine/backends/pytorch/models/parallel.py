"""Decoders whose attention and MLP are beside each other (Wang and Komatsuzaki, 2021).

Both take the same normed states, so that ranks add up what both give at once.
"""

from __future__ import annotations

from functools import partial

import torch

from tandem.engine.backends.pytorch.layers.batch import StepBatch
from tandem.engine.backends.pytorch.layers.kv_cache import LayerCache
from tandem.engine.backends.pytorch.layers.norm import Residual
from tandem.engine.backends.pytorch.layers.rotary import RotarySlots
from tandem.engine.backends.pytorch.loader import ShardLoader
from tandem.engine.backends.pytorch.models.llama import make_attention, make_mlp, make_norm
from tandem.engine.backends.pytorch.models.stack import Stack
from tandem.engine.core.communicator import Communicator, Solo
from tandem.engine.families.llama import LlamaConfig, LlamaLayer


class Block:
    def __init__(
        self,
        config: LlamaConfig,
        layer: LlamaLayer,
        number: int,
        loader: ShardLoader,
        group: Communicator[torch.Tensor],
    ) -> None:
        assert layer.attention_norm is not None, "there is one norm, before both"
        alone: Solo[torch.Tensor] = Solo()
        self._norm = make_norm(config, layer.attention_norm, loader)
        self._attention = make_attention(config, layer.attention, number, loader, alone)
        self._mlp = make_mlp(config, layer.mlp, loader, alone)
        self._group = group
        self._add = Residual()

    def __call__(
        self, states: torch.Tensor, batch: StepBatch, step: RotarySlots, cache: LayerCache
    ) -> torch.Tensor:
        normed = self._norm(states)
        change = self._attention(normed, batch, step, cache) + self._mlp(normed)
        return self._add(states, self._group.all_reduce(change))


Model = partial(Stack, block=Block, norm=make_norm)
