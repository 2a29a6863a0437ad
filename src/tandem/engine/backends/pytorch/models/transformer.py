"""The decoder of the Llama family: one set of layers, driven by the config and a shard.

Reads top down like the papers: RMSNorm, attention, gated MLP, block, model. Each layer loads its
own slice of the checkpoint, so what a rank holds is decided beside what it computes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tandem.engine.backends.pytorch.kernels.operators import (
    LayerCache,
    Places,
    Results,
    RMSNorm,
    add,
    place,
    swiglu,
)
from tandem.engine.backends.pytorch.layers.attention import KVCache, StepBatch, paged_attention
from tandem.engine.backends.pytorch.layers.linear import (
    Embedding,
    Linear,
    make_embedding,
    make_linear,
    make_tied,
)
from tandem.engine.backends.pytorch.layers.rotary import Rotary
from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.layout import EMBEDDING, FINAL_NORM, HEAD, layer_prefix
from tandem.engine.checkpoint.safetensors import Checkpoint
from tandem.engine.checkpoint.sharding import Shard, Span
from tandem.engine.core.communicator import Communicator


@dataclass(frozen=True)
class LoadContext:
    """What every layer needs to load its part."""

    config: ModelConfig
    shard: Shard
    checkpoint: Checkpoint
    dtype: torch.dtype
    device: torch.device
    quantize: str | None

    def read(
        self, name: str, *, rows: Span | None = None, columns: Span | None = None
    ) -> torch.Tensor:
        tensor = self.checkpoint.read(name, self.dtype, rows=rows, columns=columns)
        return tensor.to(self.device)

    def by_rows(self, parts: list[tuple[str, Span]], *, bias: bool) -> Linear:
        """One linear map that stacks the given row slices of several projections."""
        weight = torch.cat([self.read(f"{name}.weight", rows=rows) for name, rows in parts])
        stacked_bias = (
            torch.cat([self.read(f"{name}.bias", rows=rows) for name, rows in parts])
            if bias
            else None
        )
        return make_linear(weight, stacked_bias, self.quantize)

    def by_columns(self, name: str, columns: Span, *, bias: bool) -> Linear:
        """A slice of the inputs. The bias is added by the first rank only: the sum has it once."""
        weight = self.read(f"{name}.weight", columns=columns)
        own_bias = self.read(f"{name}.bias") if bias and columns.start == 0 else None
        return make_linear(weight, own_bias, self.quantize)


class Attention:
    def __init__(self, context: LoadContext, layer: int, group: Communicator[torch.Tensor]) -> None:
        config, prefix = context.config, layer_prefix(layer) + "self_attn."
        fold = config.num_heads // config.num_kv_heads
        keys = context.shard.kv_heads.scaled(config.head_dim)
        queries = keys.scaled(fold)
        self._head_dim = config.head_dim
        self._kv_heads = len(context.shard.kv_heads)
        self._heads = self._kv_heads * fold
        self._window = config.sliding_windows[layer]
        self._group = group
        self._results = Results()
        parts = [(prefix + "q_proj", queries), (prefix + "k_proj", keys), (prefix + "v_proj", keys)]
        self._project = context.by_rows(parts, bias=config.qkv_bias)
        self._output = context.by_columns(prefix + "o_proj", queries, bias=config.output_bias)
        self._query_norm = self._key_norm = None
        if config.qk_norm:
            self._query_norm = RMSNorm(context.read(prefix + "q_norm.weight"), config.rms_norm_eps)
            self._key_norm = RMSNorm(context.read(prefix + "k_norm.weight"), config.rms_norm_eps)

    def __call__(
        self,
        states: torch.Tensor,
        batch: StepBatch,
        places: Places,
        cache: LayerCache,
    ) -> torch.Tensor:
        heads, kv_heads = self._heads, self._kv_heads
        joined = self._project(states).view(len(states), heads + 2 * kv_heads, self._head_dim)
        if self._query_norm is not None and self._key_norm is not None:
            queries, keys = joined[:, :heads], joined[:, heads : heads + kv_heads]
            values = joined[:, heads + kv_heads :]
            joined = torch.cat((self._query_norm(queries), self._key_norm(keys), values), dim=1)
        queries = place(joined, heads, places, cache, self._results)
        attended = paged_attention(queries, cache, batch.groups, self._window)
        return self._group.all_reduce(self._output(attended))


class GatedMLP:
    def __init__(self, context: LoadContext, layer: int, group: Communicator[torch.Tensor]) -> None:
        prefix, columns = layer_prefix(layer) + "mlp.", context.shard.columns
        bias = context.config.mlp_bias
        parts = [(prefix + "gate_proj", columns), (prefix + "up_proj", columns)]
        self._gate_up = context.by_rows(parts, bias=bias)
        self._down = context.by_columns(prefix + "down_proj", columns, bias=bias)
        self._group = group
        self._results = Results()

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return self._group.all_reduce(self._down(swiglu(self._gate_up(states), self._results)))


class Block:
    def __init__(self, context: LoadContext, layer: int, group: Communicator[torch.Tensor]) -> None:
        prefix, eps = layer_prefix(layer), context.config.rms_norm_eps
        self._attention_norm = RMSNorm(context.read(prefix + "input_layernorm.weight"), eps)
        self._attention = Attention(context, layer, group)
        self._mlp_norm = RMSNorm(context.read(prefix + "post_attention_layernorm.weight"), eps)
        self._mlp = GatedMLP(context, layer, group)
        self._middle, self._end = Results(), Results()

    def __call__(
        self,
        states: torch.Tensor,
        batch: StepBatch,
        places: Places,
        cache: LayerCache,
    ) -> torch.Tensor:
        attended = self._attention(self._attention_norm(states), batch, places, cache)
        states = add(states, attended, self._middle)
        return add(states, self._mlp(self._mlp_norm(states)), self._end)


class Transformer:
    """A shard of a model: token ids or hidden states in, hidden states or logits out."""

    def __init__(
        self,
        context: LoadContext,
        group: Communicator[torch.Tensor],
        on_progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Loads the shard; `on_progress(layers loaded, layers)` is called after each layer."""
        shard, config = context.shard, context.config
        self._vocabulary = shard.vocabulary
        self._group = group
        #: (1, hidden): what `forward` takes and gives, but for the number of rows.
        self.states_like = torch.empty(
            1, config.hidden_size, dtype=context.dtype, device=context.device
        )
        self._rotary = Rotary(config, context.device)
        self._embedding, self._head = self._outer(context)
        self._blocks = []
        for layer in range(shard.layers.start, shard.layers.stop):
            self._blocks.append(Block(context, layer, group))
            if on_progress is not None:
                on_progress(len(self._blocks), len(shard.layers))
        self._norm = None
        if shard.has_head:
            self._norm = RMSNorm(context.read(FINAL_NORM), config.rms_norm_eps)

    @staticmethod
    def _outer(context: LoadContext) -> tuple[Embedding | None, Linear | None]:
        """What the shard has of the embedding and the head."""
        shard, tied = context.shard, context.config.tie_word_embeddings
        embedding = head = None
        if shard.embeds or (shard.has_head and tied):
            embedding = context.read(EMBEDDING, rows=shard.vocabulary)
        if shard.has_head:
            head = embedding if tied else context.read(HEAD, rows=shard.vocabulary)
        if shard.embeds and embedding is not None and embedding is head:
            return make_tied(embedding, context.quantize)
        return (
            make_embedding(embedding) if shard.embeds and embedding is not None else None,
            None if head is None else make_linear(head, None, context.quantize),
        )

    def embed(self, tokens: torch.Tensor) -> torch.Tensor:
        """(rows,) ids → (rows, hidden). A vocabulary slice gives zeros for the others' tokens."""
        assert self._embedding is not None, "this shard does not embed"
        if self._group.size == 1:
            return self._embedding(tokens)
        local = tokens - self._vocabulary.start
        own = (local >= 0) & (local < len(self._vocabulary))
        states = self._embedding(local.clamp(0, len(self._vocabulary) - 1))
        return self._group.all_reduce(states * own[:, None])

    def forward(self, states: torch.Tensor, batch: StepBatch, cache: KVCache) -> torch.Tensor:
        """Runs the shard's layers on (rows, hidden) states and writes the new keys and values."""
        places = Places.of(*self._rotary.tables(batch.positions, states.dtype), batch.slots)
        for block, layer in zip(self._blocks, cache.layers, strict=True):
            states = block(states, batch, places, layer)
        return states

    def logits(self, states: torch.Tensor) -> torch.Tensor | None:
        """(rows, hidden) after the last layer → float32 (rows, vocabulary); None above rank 0."""
        assert self._norm is not None, "this shard has no head"
        assert self._head is not None, "this shard has no head"
        logits = self._group.gather(self._head(self._norm(states)))
        return None if logits is None else logits.float()
