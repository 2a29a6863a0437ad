"""The decoder of Llama (Touvron et al., 2023), and of families that differ from it by switches.

Norm, attention, norm, gated MLP; each adds to the residual stream. Reads top down like the paper.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from tandem.engine.backends.pytorch.layers.attention import Attention
from tandem.engine.backends.pytorch.layers.batch import StepBatch
from tandem.engine.backends.pytorch.layers.groups import Scoring
from tandem.engine.backends.pytorch.layers.kv_cache import KVCache, LayerCache
from tandem.engine.backends.pytorch.layers.mlp import GatedMLP
from tandem.engine.backends.pytorch.layers.norm import NormPerHead, Residual, RMSNorm
from tandem.engine.backends.pytorch.layers.rotary import RotarySlots
from tandem.engine.backends.pytorch.loader import ShardLoader
from tandem.engine.checkpoint.layout import DecoderTensors, TensorSpec
from tandem.engine.core.communicator import Communicator
from tandem.engine.families.llama import LlamaConfig, LlamaLayer


class Block:
    def __init__(
        self,
        config: LlamaConfig,
        layer: LlamaLayer,
        window: int | None,
        loader: ShardLoader,
        group: Communicator[torch.Tensor],
    ) -> None:
        def norm(spec: TensorSpec) -> RMSNorm:
            return RMSNorm(loader.read(spec), config.rms_norm_eps)

        kv_heads = len(loader.shard.kv_heads)
        heads = kv_heads * (config.num_heads // config.num_kv_heads)
        head_norm = None
        if layer.query_norm is not None and layer.key_norm is not None:
            head_norm = NormPerHead(norm(layer.query_norm), norm(layer.key_norm), heads, kv_heads)
        self._attention_norm = norm(layer.attention_norm)
        self._attention = Attention(
            loader.linear(layer.queries, layer.keys, layer.values),
            loader.linear(layer.output),
            group,
            heads=heads,
            kv_heads=kv_heads,
            scoring=Scoring(window),
            head_norm=head_norm,
        )
        self._mlp_norm = norm(layer.mlp_norm)
        self._mlp = GatedMLP(loader.linear(layer.gate, layer.up), loader.linear(layer.down), group)
        self._add_attended, self._add_mlp = Residual(), Residual()

    def __call__(
        self, states: torch.Tensor, batch: StepBatch, step: RotarySlots, cache: LayerCache
    ) -> torch.Tensor:
        attended = self._attention(self._attention_norm(states), batch, step, cache)
        states = self._add_attended(states, attended)
        return self._add_mlp(states, self._mlp(self._mlp_norm(states)))


class Model:
    """`tandem.engine.backends.pytorch.models.Decoder`."""

    def __init__(
        self,
        config: LlamaConfig,
        tensors: DecoderTensors[LlamaLayer],
        loader: ShardLoader,
        group: Communicator[torch.Tensor],
        on_layer: Callable[[], None],
    ) -> None:
        self._rotary = loader.rotary(config.ropes)
        self._vocabulary = loader.vocabulary(tensors, group)
        self._blocks = []
        for number in range(loader.shard.layers.start, loader.shard.layers.stop):
            window = config.sliding_windows[number]
            self._blocks.append(Block(config, tensors.layers[number], window, loader, group))
            on_layer()
        self._norm = None
        if loader.shard.has_head:
            self._norm = RMSNorm(loader.read(tensors.final_norm), config.rms_norm_eps)

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._vocabulary.embed(tokens)

    def forward(self, states: torch.Tensor, batch: StepBatch, cache: KVCache) -> torch.Tensor:
        steps = self._rotary.of_step(batch)
        for block, step, layer in zip(self._blocks, steps, cache.layers, strict=True):
            states = block(states, batch, step, layer)
        return states

    def logits(self, states: torch.Tensor) -> torch.Tensor | None:
        assert self._norm is not None, "this shard has no head"
        return self._vocabulary.logits(self._norm(states))
