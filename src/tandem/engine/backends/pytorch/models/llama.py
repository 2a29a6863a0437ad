"""The decoder of Llama (Touvron et al., 2023), and of families that differ from it by switches.

Norm, attention, norm, gated MLP; each adds to the residual stream. Reads top down like the paper.
Some families have a norm behind attention and MLP as well, or there alone.
"""

from __future__ import annotations

from functools import partial

import torch

from tandem.engine.backends.pytorch.layers.attention import Attention
from tandem.engine.backends.pytorch.layers.batch import StepBatch
from tandem.engine.backends.pytorch.layers.groups import Scoring
from tandem.engine.backends.pytorch.layers.kv_cache import LayerCache
from tandem.engine.backends.pytorch.layers.latent import LatentAttention
from tandem.engine.backends.pytorch.layers.mlp import (
    ACTIVATIONS,
    MLP,
    ClampedGate,
    Gate,
    GatedMLP,
    PlainMLP,
)
from tandem.engine.backends.pytorch.layers.norm import (
    HeadNorm,
    LayerNorm,
    Norm,
    NormOverHeads,
    NormPerHead,
    Residual,
    RMSNorm,
)
from tandem.engine.backends.pytorch.layers.rotary import RotarySlots
from tandem.engine.backends.pytorch.loader import ShardLoader
from tandem.engine.backends.pytorch.models.experts import load_experts
from tandem.engine.backends.pytorch.models.latent import load_latent_attention
from tandem.engine.backends.pytorch.models.stack import Stack
from tandem.engine.checkpoint import layout
from tandem.engine.core.communicator import Communicator
from tandem.engine.families.latent import LatentTensors
from tandem.engine.families.llama import AttentionTensors, LlamaConfig, LlamaLayer
from tandem.engine.families.mlp import ExpertTensors, MLPTensors, PlainTensors


class Block:
    def __init__(
        self,
        config: LlamaConfig,
        layer: LlamaLayer,
        number: int,
        loader: ShardLoader,
        group: Communicator[torch.Tensor],
    ) -> None:
        def norm(tensors: layout.Norm | None) -> Norm:
            return _same if tensors is None else make_norm(config, tensors, loader)

        self._attention_norm = norm(layer.attention_norm)
        self._attention = make_attention(config, layer.attention, number, loader, group)
        self._attended_norm = norm(layer.attended_norm)
        self._mlp_norm = norm(layer.mlp_norm)
        self._mlp = make_mlp(config, layer.mlp, loader, group)
        self._mlp_out_norm = norm(layer.mlp_out_norm)
        scale = config.residual_scale
        self._add_attended, self._add_mlp = Residual(scale), Residual(scale)

    def __call__(
        self, states: torch.Tensor, batch: StepBatch, step: RotarySlots, cache: LayerCache
    ) -> torch.Tensor:
        attended = self._attention(self._attention_norm(states), batch, step, cache)
        states = self._add_attended(states, self._attended_norm(attended))
        return self._add_mlp(states, self._mlp_out_norm(self._mlp(self._mlp_norm(states))))


def _same(states: torch.Tensor) -> torch.Tensor:
    return states


def make_norm(config: LlamaConfig, tensors: layout.Norm, loader: ShardLoader) -> Norm:
    weight = loader.read(tensors.weight, torch.float32) + config.norm_offset
    if not config.layer_norms:
        return RMSNorm(weight, config.norm_eps)
    bias = None if tensors.bias is None else loader.read(tensors.bias, torch.float32)
    return LayerNorm(weight, bias, config.norm_eps)


def make_attention(
    config: LlamaConfig,
    tensors: AttentionTensors | LatentTensors,
    number: int,
    loader: ShardLoader,
    group: Communicator[torch.Tensor],
) -> Attention | LatentAttention:
    window, scale = config.sliding_windows[number], config.attention_scale
    if isinstance(tensors, LatentTensors):
        assert config.latent is not None, "these layers have latents"
        return load_latent_attention(tensors, config.latent, Scoring(window, scale), loader, group)
    kv_heads = len(loader.shard.kv_heads)
    return Attention(
        loader.linear(tensors.queries, tensors.keys, tensors.values),
        loader.linear(tensors.output),
        group,
        heads=kv_heads * (config.num_heads // config.num_kv_heads),
        kv_heads=kv_heads,
        scoring=Scoring(
            window,
            scale,
            config.attention_softcap,
            None if tensors.sinks is None else loader.read(tensors.sinks, torch.float32),
        ),
        head_norm=_head_norm(config, tensors, loader, group),
        query_weight=_query_weight(config, tensors, loader),
    )


def make_mlp(
    config: LlamaConfig,
    mlp: MLPTensors | PlainTensors | ExpertTensors,
    loader: ShardLoader,
    group: Communicator[torch.Tensor],
) -> MLP:
    activation = ACTIVATIONS[config.activation]
    if isinstance(mlp, MLPTensors):
        gate_up, down = loader.linear(mlp.gate, mlp.up), loader.linear(mlp.down)
        return GatedMLP(gate_up, down, group, activation)
    if isinstance(mlp, PlainTensors):
        return PlainMLP(loader.linear(mlp.up), loader.linear(mlp.down), group, activation)
    assert config.routing is not None, "experts are chosen by some rule"
    clamp = config.gate_clamp
    gating = Gate(activation) if clamp is None else ClampedGate(clamp)
    return load_experts(mlp, config.routing, gating, loader, group)


def _head_norm(
    config: LlamaConfig,
    tensors: AttentionTensors,
    loader: ShardLoader,
    group: Communicator[torch.Tensor],
) -> HeadNorm | None:
    if tensors.query_norm is None or tensors.key_norm is None:
        return None
    kv_heads, head_dim = len(loader.shard.kv_heads), config.head_dim
    heads = kv_heads * (config.num_heads // config.num_kv_heads)
    if config.norm_rotated:
        plain = RMSNorm(torch.ones(head_dim, device=loader.device), config.norm_eps)
        return NormPerHead(plain, plain, heads, kv_heads)
    if not config.norm_over_heads:
        queries = make_norm(config, tensors.query_norm, loader)
        return NormPerHead(queries, make_norm(config, tensors.key_norm, loader), heads, kv_heads)
    return NormOverHeads(
        loader.read(tensors.query_norm.weight, torch.float32).view(heads, head_dim),
        loader.read(tensors.key_norm.weight, torch.float32).view(kv_heads, head_dim),
        config.norm_eps,
        widths=(config.num_heads * head_dim, config.num_kv_heads * head_dim),
        group=group,
    )


def _query_weight(
    config: LlamaConfig, tensors: AttentionTensors, loader: ShardLoader
) -> torch.Tensor | None:
    """The weights of norms that are behind the rotation, which only their product is seen of.

    Rotated or not, a head has the same length, so what else a norm does can go before.
    """
    if not config.norm_rotated or tensors.query_norm is None or tensors.key_norm is None:
        return None
    queries = loader.read(tensors.query_norm.weight, torch.float32)
    return (queries * loader.read(tensors.key_norm.weight, torch.float32)).to(loader.dtype)


Model = partial(Stack, block=Block, norm=make_norm)
