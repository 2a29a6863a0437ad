"""Llama and those that differ from it by switches: Mistral, Qwen2, Qwen3."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    Projection,
    TensorSpec,
    norm,
    projection,
)
from tandem.engine.families.family import Family, Size
from tandem.engine.families.rope import FULL, SLIDING, RawRotary, Rope, read_ropes
from tandem.errors import CheckpointError

_LAYER_TYPES = {SLIDING, FULL}
#: Those that gates may have, by the names of configs.
_ACTIVATIONS = ("silu", "swish", "gelu", "gelu_new", "gelu_pytorch_tanh")
#: What a `config.json` may leave out; a family's own come on top.
_DEFAULTS = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "rms_norm_eps": 1e-6,
}


class LlamaConfig(ModelConfig, frozen=True, kw_only=True):
    """What the layers of Llama need, and of those that differ from it by switches.

    Products of queries and keys are multiplied by `attention_scale` (None: 1 / sqrt(head_dim)) and
    kept within `attention_softcap`, logits likewise; the embedding's rows by `embedding_scale`. The
    weights of norms are `norm_offset` more than stored; `wide_norms` apply them in float32, others
    in the dtype of the states. With `norm_over_heads` all heads of queries are one row of a norm.
    """

    rms_norm_eps: float
    ropes: tuple[Rope | None, ...]
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    norm_over_heads: bool = False
    wide_norms: bool = False
    norm_offset: float = 0.0
    activation: str = "silu"
    embedding_scale: float = 1.0
    attention_scale: float | None = None
    attention_softcap: float | None = None
    logit_scale: float = 1.0
    logit_softcap: float | None = None


class MLPTensors(msgspec.Struct, frozen=True):
    """Gate and up make the columns, which down takes."""

    gate: Projection
    up: Projection
    down: Projection


class LlamaLayer(msgspec.Struct, frozen=True):
    """A layer's tensors.

    Norms are of what goes into attention and MLP, and of what comes out of them.
    """

    attention_norm: TensorSpec | None
    mlp_norm: TensorSpec | None
    queries: Projection
    keys: Projection
    values: Projection
    output: Projection
    mlp: MLPTensors
    query_norm: TensorSpec | None
    key_norm: TensorSpec | None
    attended_norm: TensorSpec | None = None
    mlp_out_norm: TensorSpec | None = None


class _RawLlama(RawRotary, frozen=True, kw_only=True):
    rms_norm_eps: float
    attention_bias: bool | None = None
    mlp_bias: bool | None = None
    hidden_act: str = "silu"
    sliding_window: int | None = None
    use_sliding_window: bool | None = None
    max_window_layers: int | None = None
    layer_types: list[str] | None = None


@dataclass(frozen=True, kw_only=True)
class LlamaFamily(Family[LlamaConfig, LlamaLayer]):
    """What a family fixes in code rather than in its config.

    `defaults` are for fields that a `config.json` leaves out, as `transformers` has them. A bias of
    None is as the config says; families without `always_windowed` need `use_sliding_window`.
    """

    name: str
    model: str = "llama"
    #: Older exports carry the first, which derives from the config; the second is a tied head.
    ignored_tensors: tuple[str, ...] = ("rotary_emb.inv_freq", "lm_head.weight")
    defaults: Mapping[str, Any] = field(default_factory=dict)
    default_eos: int | None = None
    qkv_bias: bool | None = None
    output_bias: bool | None = None
    mlp_bias: bool | None = False
    qk_norm: bool = False
    always_windowed: bool = False
    usually_tied: bool = True

    def read_config(self, architecture: str, directory: Path) -> LlamaConfig:
        path = directory / CONFIG_FILE
        raw = read_raw(directory, _RawLlama, {**_DEFAULTS, **self.defaults})
        attention_bias = bool(raw.attention_bias)
        common = common_fields(raw, directory, self.default_eos)
        windows = self._sliding_windows(raw, path)
        config = LlamaConfig(
            architecture=architecture,
            **common,
            rms_norm_eps=raw.rms_norm_eps,
            ropes=read_ropes(raw, common["head_dim"], _kinds(windows), path),
            qkv_bias=attention_bias if self.qkv_bias is None else self.qkv_bias,
            output_bias=attention_bias if self.output_bias is None else self.output_bias,
            mlp_bias=bool(raw.mlp_bias) if self.mlp_bias is None else self.mlp_bias,
            qk_norm=self.qk_norm,
            activation=raw.hidden_act,
            sliding_windows=windows,
        )
        _check(config, raw, path)
        return config

    def tensors(self, config: LlamaConfig) -> DecoderTensors[LlamaLayer]:
        vocabulary = (config.vocab_size, config.hidden_size)
        by_token = Division(Axis.VOCABULARY)
        return DecoderTensors(
            embedding=TensorSpec("model.embed_tokens.weight", vocabulary, rows=by_token),
            final_norm=norm("model.norm", config.hidden_size),
            head=None
            if config.tie_word_embeddings
            else TensorSpec("lm_head.weight", vocabulary, rows=by_token),
            layers=tuple(_layer(config, number) for number in range(config.num_layers)),
        )

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

    def _sliding_windows(self, raw: _RawLlama, path: Path) -> tuple[int | None, ...]:
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
        first = 0 if self.always_windowed else raw.max_window_layers or 0
        return tuple(window if layer >= first else None for layer in range(layers))


def _kinds(windows: Sequence[int | None]) -> list[str]:
    return [FULL if window is None else SLIDING for window in windows]


def _check(config: LlamaConfig, raw: _RawLlama, path: Path) -> None:
    """Raises CheckpointError for what these layers can't compute."""
    if raw.hidden_act not in _ACTIVATIONS:
        raise CheckpointError(
            f"{path}: hidden_act {raw.hidden_act!r} is not supported; "
            f"expected one of {_ACTIVATIONS}"
        )
    if not 0 < config.rms_norm_eps < math.inf:
        raise CheckpointError(
            f"{path}: rms_norm_eps is {config.rms_norm_eps}; expected a positive number"
        )


def _layer(config: LlamaConfig, number: int) -> LlamaLayer:
    prefix, hidden = f"model.layers.{number}.", config.hidden_size
    attention = prefix + "self_attn."
    fold = config.num_heads // config.num_kv_heads
    keys = (config.num_kv_heads * config.head_dim, hidden)
    by_key = Division(Axis.KV_HEADS, config.head_dim)
    queries = (config.num_heads * config.head_dim, hidden)
    by_query = Division(Axis.KV_HEADS, fold * config.head_dim)
    columns, by_column = (config.intermediate_size, hidden), Division(Axis.COLUMNS)
    qkv, output, biased = config.qkv_bias, config.output_bias, config.mlp_bias
    return LlamaLayer(
        attention_norm=norm(prefix + "input_layernorm", hidden),
        mlp_norm=norm(prefix + "post_attention_layernorm", hidden),
        queries=projection(attention + "q_proj", queries, bias=qkv, rows=by_query),
        keys=projection(attention + "k_proj", keys, bias=qkv, rows=by_key),
        values=projection(attention + "v_proj", keys, bias=qkv, rows=by_key),
        output=projection(attention + "o_proj", queries[::-1], bias=output, columns=by_query),
        mlp=mlp_tensors(prefix + "mlp.", columns, by_column, bias=biased),
        query_norm=norm(attention + "q_norm", config.head_dim) if config.qk_norm else None,
        key_norm=norm(attention + "k_norm", config.head_dim) if config.qk_norm else None,
    )


def mlp_tensors(
    prefix: str, columns: tuple[int, int], division: Division | None, *, bias: bool = False
) -> MLPTensors:
    """`columns` is the shape of gate and up, whose rows ranks divide by `division`."""
    return MLPTensors(
        gate=projection(prefix + "gate_proj", columns, bias=bias, rows=division),
        up=projection(prefix + "up_proj", columns, bias=bias, rows=division),
        down=projection(prefix + "down_proj", columns[::-1], bias=bias, columns=division),
    )


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
    "MistralForCausalLM": LlamaFamily(
        name="mistral",
        defaults={
            "intermediate_size": 14336,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "sliding_window": 4096,
        },
        default_eos=2,
        qkv_bias=False,
        output_bias=False,
        always_windowed=True,
        usually_tied=False,
    ),
    "Qwen2ForCausalLM": LlamaFamily(name="qwen2", defaults=_QWEN, qkv_bias=True, output_bias=False),
    "Qwen3ForCausalLM": LlamaFamily(
        name="qwen3", defaults={**_QWEN, "head_dim": 128}, qk_norm=True
    ),
}
