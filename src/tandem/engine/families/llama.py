"""Llama and those that differ from it by switches: Qwen2, Qwen3, and in other modules more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tandem.engine.checkpoint.config import (
    CONFIG_FILE,
    ModelConfig,
    common_fields,
    read_raw,
)
from tandem.engine.checkpoint.layout import (
    Axis,
    DecoderTensors,
    Division,
    Norm,
    Pairs,
    Projection,
    TensorSpec,
    norm,
    projection,
)
from tandem.engine.checkpoint.renamed import Beginnings
from tandem.engine.checkpoint.tied import has_own_head
from tandem.engine.families.family import Family, Size
from tandem.engine.families.latent import LatentTensors
from tandem.engine.families.mlp import (
    ExpertTensors,
    GateClamp,
    MLPTensors,
    PlainTensors,
    Routing,
    mlp_tensors,
)
from tandem.engine.families.rope import (
    FULL,
    SLIDING,
    RawRotary,
    Rope,
    read_ropes,
    stretched_context,
)
from tandem.errors import CheckpointError

_EMBEDDING = "embed_tokens.weight"
_LAYER_TYPES = {SLIDING, FULL}
#: Those that gates may have, by the names of configs.
_ACTIVATIONS = ("silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu2")
#: What a `config.json` may leave out; a family's own come on top.
DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "rms_norm_eps": 1e-6,
}


class LlamaConfig(ModelConfig, frozen=True, kw_only=True):
    """What the layers of Llama need, and of those that differ from it by switches.

    Products of queries and keys are multiplied by `attention_scale` (None: 1 / sqrt(head_dim)) and
    kept within `attention_softcap`, logits likewise; the embedding's rows by `embedding_scale`,
    what attention and MLP add to states by `residual_scale`. The weights of norms are `norm_offset`
    more than stored. With `norm_over_heads` all heads of queries are one row of a norm; with
    `norm_rotated` norms of heads are behind the rotation. `layer_norms` are not RMSNorm, and may
    have a bias.
    `routing` chooses experts of so many columns in all layers but the `dense_layers`. Behind the
    last layer a file may have `guessing_layers` more, which predict further tokens.
    """

    norm_eps: float
    ropes: tuple[Rope | None, ...]
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    norm_over_heads: bool = False
    norm_rotated: bool = False
    layer_norms: bool = False
    norm_offset: float = 0.0
    norm_bias: bool = False
    activation: str = "silu"
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logit_scale: float = 1.0
    logit_softcap: float | None = None
    routing: Routing | None = None
    expert_columns: int = 0
    dense_layers: tuple[int, ...] = ()
    gate_clamp: GateClamp | None = None
    guessing_layers: int = 0


class AttentionTensors(msgspec.Struct, frozen=True):
    queries: Projection
    keys: Projection
    values: Projection
    output: Projection
    query_norm: Norm | None = None
    key_norm: Norm | None = None
    sinks: TensorSpec | None = None


class LlamaLayer(msgspec.Struct, frozen=True):
    """A layer's tensors. Norms are of what goes into attention and MLP, and of what comes out."""

    attention: AttentionTensors | LatentTensors
    mlp: MLPTensors | PlainTensors | ExpertTensors
    attention_norm: Norm | None = None
    attended_norm: Norm | None = None
    mlp_norm: Norm | None = None
    mlp_out_norm: Norm | None = None


#: A layer's norms, by what they are called in a file.
_NORMS = {"attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm"}


class RawLlama(RawRotary, frozen=True, kw_only=True):
    rms_norm_eps: float
    attention_bias: bool | None = None
    mlp_bias: bool | None = None
    hidden_act: str = "silu"
    sliding_window: int | None = None
    use_sliding_window: bool | None = None
    max_window_layers: int | None = None
    layer_types: list[str] | None = None
    sliding_window_pattern: int | str | None = None


@dataclass(frozen=True, kw_only=True)
class LlamaFamily(Family[LlamaConfig, LlamaLayer]):
    """What a family fixes in code rather than in its config.

    `defaults` are for fields that a `config.json` leaves out, as `transformers` has them. A bias of
    None is as the config says; families without `always_windowed` need `use_sliding_window`. With
    `full_every`, every so many-th layer has no window. `norms` are what files call a layer's. Where
    a head's neighbours rotate together, `rotates_pairs`, and not those half a head apart.
    """

    raw: ClassVar[type[RawLlama]] = RawLlama
    config: ClassVar[type[LlamaConfig]] = LlamaConfig
    activation_field: ClassVar[str] = "hidden_act"
    eps_field: ClassVar[str] = "rms_norm_eps"

    name: str
    model: str = "llama"
    #: What the names of tensors begin with, but for the head's.
    prefix: str = "model."
    head: str = "lm_head.weight"
    #: Older exports carry the first, which derives from the config; the second is a tied head.
    ignored_tensors: tuple[str, ...] = ("rotary_emb.inv_freq", "lm_head.weight")
    renamed: Beginnings = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    default_eos: int | Sequence[int] | None = None
    qkv_bias: bool | None = None
    output_bias: bool | None = None
    mlp_bias: bool | None = False
    qk_norm: bool = False
    rotates_pairs: bool = False
    always_windowed: bool = False
    full_every: int | None = None
    norms: Mapping[str, str] = field(default_factory=lambda: _NORMS)
    usually_tied: bool = True

    def read_config(self, architecture: str, directory: Path) -> LlamaConfig:
        path = directory / CONFIG_FILE
        raw = self.stated(directory)
        attention_bias = bool(raw.attention_bias)
        common = common_fields(raw, directory, self.default_eos)
        embedding = self.prefix + _EMBEDDING
        tied = common["tie_word_embeddings"] and not has_own_head(directory, self.head, embedding)
        windows = self.windows(raw, path)
        fields = {
            "norm_eps": positive(self.eps_field, getattr(raw, self.eps_field), path),
            "ropes": self.ropes(raw, common["head_dim"], _kinds(windows), path),
            "qkv_bias": attention_bias if self.qkv_bias is None else self.qkv_bias,
            "output_bias": attention_bias if self.output_bias is None else self.output_bias,
            "mlp_bias": bool(raw.mlp_bias) if self.mlp_bias is None else self.mlp_bias,
            "qk_norm": self.qk_norm,
            "activation": self._activation(raw, path),
            "sliding_windows": windows,
            "context_length": stretched_context(raw),
            "tie_word_embeddings": tied,
        }
        own = self.own_fields(raw, path)
        return self.config(architecture=architecture, **(common | fields | own))

    def stated(self, directory: Path) -> Any:  # noqa: ANN401 - of `self.raw`
        """The config with what it leaves out. Raises CheckpointError."""
        return read_raw(directory, self.raw, {**DEFAULTS, **self.defaults})

    def ropes(
        self,
        raw: Any,  # noqa: ANN401 - of `self.raw`
        head_dim: int,
        kinds: Sequence[str],
        path: Path,
    ) -> tuple[Rope | None, ...]:
        """How layers of these kinds, `FULL` or `SLIDING`, rotate. Raises CheckpointError."""
        return read_ropes(raw, head_dim, kinds, path)

    def own_fields(self, raw: Any, path: Path) -> dict[str, Any]:  # noqa: ANN401, ARG002
        """Those of a `LlamaConfig` that differ from Llama's. Raises CheckpointError."""
        return {}

    def ignored(self, config: LlamaConfig) -> tuple[str, ...]:
        behind = range(config.num_layers, config.num_layers + config.guessing_layers)
        return (*self.ignored_tensors, *(f"{self.prefix}layers.{number}." for number in behind))

    def tensors(self, config: LlamaConfig) -> DecoderTensors[LlamaLayer]:
        vocabulary = (config.vocab_size, config.hidden_size)
        by_token = Division(Axis.VOCABULARY)
        return DecoderTensors(
            embedding=TensorSpec(self.prefix + _EMBEDDING, vocabulary, rows=by_token),
            final_norm=_norm(config, self.prefix + "norm"),
            head=None
            if config.tie_word_embeddings
            else TensorSpec(self.head, vocabulary, rows=by_token),
            layers=tuple(self.layer(config, number) for number in range(config.num_layers)),
        )

    def layer(self, config: LlamaConfig, number: int) -> LlamaLayer:
        prefix = f"{self.prefix}layers.{number}."
        norms = {name: _norm(config, prefix + stored) for name, stored in self.norms.items()}
        attention = self.attention(config, prefix + "self_attn.")
        return LlamaLayer(attention, self.mlp(config, prefix + "mlp."), **norms)

    def attention(self, config: LlamaConfig, prefix: str) -> AttentionTensors:
        by_query, by_key = _by_heads(config)
        keys = (config.num_kv_heads * config.head_dim, config.hidden_size)
        queries = (config.num_heads * config.head_dim, config.hidden_size)
        bias, output = config.qkv_bias, config.output_bias
        query_norm, key_norm = self.head_norms(config, prefix) if config.qk_norm else (None, None)
        pairs = head_pairs(config) if self.rotates_pairs else None
        return AttentionTensors(
            projection(prefix + "q_proj", queries, bias=bias, rows=by_query, pairs=pairs),
            projection(prefix + "k_proj", keys, bias=bias, rows=by_key, pairs=pairs),
            projection(prefix + "v_proj", keys, bias=bias, rows=by_key),
            projection(prefix + "o_proj", queries[::-1], bias=output, columns=by_query),
            query_norm,
            key_norm,
        )

    def mlp(self, config: LlamaConfig, prefix: str) -> MLPTensors:
        columns = (config.intermediate_size, config.hidden_size)
        return mlp_tensors(prefix, columns, Division(Axis.COLUMNS), bias=config.mlp_bias)

    def head_norms(self, config: LlamaConfig, prefix: str) -> tuple[Norm, Norm]:
        counts: tuple[int, int] = (1, 1)
        divisions: tuple[Division | None, Division | None] = (None, None)
        if config.norm_over_heads:
            counts, divisions = (config.num_heads, config.num_kv_heads), _by_heads(config)
        queries, keys = (
            norm(prefix + name, count * config.head_dim, rows=rows, offset=config.norm_offset)
            for name, count, rows in zip(("q_norm", "k_norm"), counts, divisions, strict=True)
        )
        return queries, keys

    def example_config(self, size: Size) -> dict[str, Any]:
        window = {"sliding_window": size.context // 4} if self.always_windowed else {}
        return {
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": self.usually_tied,
            "attention_bias": False,
            **window,
        }

    def _activation(self, raw: RawLlama, path: Path) -> str:
        activation: str = getattr(raw, self.activation_field)
        if activation not in _ACTIVATIONS:
            raise CheckpointError(
                f"{path}: {self.activation_field} {activation!r} is not supported; "
                f"expected one of {_ACTIVATIONS}"
            )
        return activation

    def windows(self, raw: RawLlama, path: Path) -> tuple[int | None, ...]:
        """Each layer's attention window in tokens, None for full attention."""
        layers, window = raw.num_hidden_layers, raw.sliding_window
        kinds = raw.layer_types
        if kinds is not None and (len(kinds) != layers or not set(kinds) <= _LAYER_TYPES):
            raise CheckpointError(
                f"{path}: layer_types has {len(kinds)} entries, of {sorted(set(kinds))[:5]}; "
                f"expected {layers}, each one of {sorted(_LAYER_TYPES)}"
            )
        if window is None or not (self.always_windowed or raw.use_sliding_window):
            return (None,) * layers
        if window < 1:
            raise CheckpointError(f"{path}: sliding_window is {window}; expected at least 1")
        if kinds is not None:
            return tuple(window if kind == SLIDING else None for kind in kinds)
        if self.full_every is not None:
            pattern = raw.sliding_window_pattern
            every = pattern if isinstance(pattern, int) and pattern else self.full_every
            return tuple(None if layer % every == 0 else window for layer in range(1, layers + 1))
        first = 0 if self.always_windowed else raw.max_window_layers or 0
        return tuple(window if layer >= first else None for layer in range(layers))


def _kinds(windows: Sequence[int | None]) -> list[str]:
    return [FULL if window is None else SLIDING for window in windows]


def positive(name: str, number: float, path: Path) -> float:
    """Raises CheckpointError for a field of a config that is no positive number."""
    if not 0 < number < math.inf:
        raise CheckpointError(f"{path}: {name} is {number}; expected a positive number")
    return number


def head_pairs(config: LlamaConfig, axis: int = 0) -> Pairs:
    """Of a family that rotates pairs."""
    rotated = next((rope.dim for rope in config.ropes if rope is not None), 0)
    return Pairs(config.head_dim, rotated, axis)


def _norm(config: LlamaConfig, name: str) -> Norm:
    """Of states."""
    return norm(name, config.hidden_size, offset=config.norm_offset, bias=config.norm_bias)


def _by_heads(config: LlamaConfig) -> tuple[Division, Division]:
    """How ranks share what queries, and what keys and values, have of each head."""
    fold = config.num_heads // config.num_kv_heads
    each = config.head_dim
    return Division(Axis.KV_HEADS, fold * each), Division(Axis.KV_HEADS, each)


_QWEN = {
    "vocab_size": 151936,
    "intermediate_size": 22016,
    "num_key_value_heads": 32,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "max_window_layers": 28,
}

FAMILIES = {
    "LlamaForCausalLM": LlamaFamily(
        name="llama",
        defaults={"intermediate_size": 11008, "max_position_embeddings": 2048},
        default_eos=2,
        mlp_bias=None,
    ),
    "Qwen2ForCausalLM": LlamaFamily(name="qwen2", defaults=_QWEN, qkv_bias=True, output_bias=False),
    "Qwen3ForCausalLM": LlamaFamily(
        name="qwen3", defaults={**_QWEN, "head_dim": 128}, qk_norm=True
    ),
}
