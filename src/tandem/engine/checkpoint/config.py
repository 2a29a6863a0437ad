"""A model's shape, read from a Hugging Face `config.json`.

One flat structure drives one set of layers for the whole Llama family; a family is a row of
switches, not a file of code. Whatever the layers cannot compute is refused here, by name.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from tandem.engine.checkpoint.files import read_json
from tandem.errors import CheckpointError


class RopeScaling(msgspec.Struct, frozen=True):
    """A config's rotary scaling; `rope_type` is `default`, `linear` or `llama3`."""

    rope_type: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The decoder that `transformer.py` builds. Sizes count elements, not bytes."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_length: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling
    tie_word_embeddings: bool
    qkv_bias: bool
    output_bias: bool
    mlp_bias: bool
    qk_norm: bool
    sliding_windows: tuple[int | None, ...]
    dtype: str
    eos_token_ids: frozenset[int]


class _RawRope(msgspec.Struct, frozen=True):
    rope_type: str | None = None
    type: str | None = None
    rope_theta: float | None = None
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int | None = None


class _RawConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of `config.json` that decide the computation; the rest is ignored."""

    architectures: list[str]
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int
    rms_norm_eps: float
    rope_theta: float | None = None
    rope_scaling: _RawRope | None = None
    rope_parameters: _RawRope | None = None
    tie_word_embeddings: bool | None = None
    attention_bias: bool = False
    mlp_bias: bool = False
    hidden_act: str = "silu"
    sliding_window: int | msgspec.UnsetType | None = msgspec.UNSET
    use_sliding_window: bool | None = None
    max_window_layers: int | None = None
    layer_types: list[str] | None = None
    torch_dtype: str | None = None
    dtype: str | None = None
    eos_token_id: int | list[int] | None = None
    quantization_config: msgspec.Raw | None = None


class _RawGenerationConfig(msgspec.Struct, frozen=True):
    eos_token_id: int | list[int] | None = None


class _Family(msgspec.Struct, frozen=True, kw_only=True):
    """What a family fixes in code rather than in its config.

    A bias of None is as `attention_bias` says. `default_window` is the sliding window of every
    layer when the config does not mention one; families without it need `use_sliding_window`.
    """

    qkv_bias: bool | None = None
    output_bias: bool | None = None
    mlp_bias: bool | None = False
    qk_norm: bool = False
    always_windowed: bool = False
    default_window: int | None = None
    default_max_window_layers: int = 28


FAMILIES: dict[str, _Family] = {
    "LlamaForCausalLM": _Family(mlp_bias=None),
    "MistralForCausalLM": _Family(
        qkv_bias=False, output_bias=False, always_windowed=True, default_window=4096
    ),
    "Qwen2ForCausalLM": _Family(qkv_bias=True, output_bias=False),
    "Qwen3ForCausalLM": _Family(qk_norm=True),
}

_ROPE_TYPES = ("default", "linear", "llama3")
_DTYPES = ("float32", "bfloat16", "float16")


def read_config(directory: Path) -> ModelConfig:
    """Reads `config.json` and, if it is there, `generation_config.json`.

    Raises CheckpointError naming the file, the field and what was expected.
    """
    path = directory / "config.json"
    raw = read_json(path, _RawConfig)
    name = raw.architectures[0] if raw.architectures else "none"
    if name not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise CheckpointError(
            f"{path}: architecture {name} is not supported; expected one of {known}"
        )
    if raw.hidden_act != "silu":
        raise CheckpointError(
            f"{path}: hidden_act {raw.hidden_act!r} is not supported; expected 'silu'"
        )
    if raw.quantization_config is not None and bytes(raw.quantization_config) != b"null":
        raise CheckpointError(
            f"{path}: quantization_config is not supported; use an unquantized checkpoint "
            "and --quantize int8"
        )
    config = _config(raw, name, FAMILIES[name], _eos_ids(raw, directory), path)
    _check_shape(config, path)
    return config


def _eos_ids(raw: _RawConfig, directory: Path) -> frozenset[int]:
    """Every EOS id that either file names: Llama 3 has two, in `generation_config.json` only."""
    ids = _id_set(raw.eos_token_id)
    path = directory / "generation_config.json"
    if path.exists():
        ids |= _id_set(read_json(path, _RawGenerationConfig).eos_token_id)
    return frozenset(ids)


def _id_set(value: int | list[int] | None) -> set[int]:
    if value is None:
        return set()
    return {value} if isinstance(value, int) else set(value)


def _config(
    raw: _RawConfig, name: str, family: _Family, eos: frozenset[int], path: Path
) -> ModelConfig:
    def bias(fixed: bool | None, stated: bool) -> bool:
        return stated if fixed is None else fixed

    rope = raw.rope_parameters or raw.rope_scaling or _RawRope()
    dtype = (raw.dtype or raw.torch_dtype or "float32").removeprefix("torch.")
    if dtype not in _DTYPES:
        raise CheckpointError(
            f"{path}: dtype {dtype!r} is not supported; expected one of {_DTYPES}"
        )
    return ModelConfig(
        architecture=name,
        vocab_size=raw.vocab_size,
        hidden_size=raw.hidden_size,
        intermediate_size=raw.intermediate_size,
        num_layers=raw.num_hidden_layers,
        num_heads=raw.num_attention_heads,
        num_kv_heads=raw.num_key_value_heads or raw.num_attention_heads,
        head_dim=raw.head_dim or raw.hidden_size // raw.num_attention_heads,
        context_length=raw.max_position_embeddings,
        rms_norm_eps=raw.rms_norm_eps,
        rope_theta=rope.rope_theta or raw.rope_theta or 10000.0,
        rope_scaling=_rope_scaling(rope, raw.max_position_embeddings, path),
        tie_word_embeddings=bool(raw.tie_word_embeddings),
        qkv_bias=bias(family.qkv_bias, raw.attention_bias),
        output_bias=bias(family.output_bias, raw.attention_bias),
        mlp_bias=bias(family.mlp_bias, raw.mlp_bias),
        qk_norm=family.qk_norm,
        sliding_windows=_sliding_windows(raw, family, path),
        dtype=dtype,
        eos_token_ids=eos,
    )


def _rope_scaling(rope: _RawRope, context_length: int, path: Path) -> RopeScaling:
    rope_type = rope.rope_type or rope.type or "default"
    if rope_type not in _ROPE_TYPES:
        raise CheckpointError(
            f"{path}: rope_type {rope_type!r} is not supported; expected one of {_ROPE_TYPES}"
        )
    return RopeScaling(
        rope_type=rope_type,
        factor=rope.factor,
        low_freq_factor=rope.low_freq_factor,
        high_freq_factor=rope.high_freq_factor,
        original_max_position_embeddings=rope.original_max_position_embeddings or context_length,
    )


def _sliding_windows(raw: _RawConfig, family: _Family, path: Path) -> tuple[int | None, ...]:
    """Each layer's attention window in tokens, None for full attention."""
    layers = raw.num_hidden_layers
    stated = raw.sliding_window
    window = family.default_window if isinstance(stated, msgspec.UnsetType) else stated
    if window is None or not (family.always_windowed or raw.use_sliding_window):
        return (None,) * layers
    if raw.layer_types is not None:
        if len(raw.layer_types) != layers:
            raise CheckpointError(
                f"{path}: layer_types has {len(raw.layer_types)} entries; expected {layers}"
            )
        return tuple(window if kind == "sliding_attention" else None for kind in raw.layer_types)
    first = (
        family.default_max_window_layers if raw.max_window_layers is None else raw.max_window_layers
    )
    if family.always_windowed:
        first = 0
    return tuple(window if layer >= first else None for layer in range(layers))


def _check_shape(config: ModelConfig, path: Path) -> None:
    positive = ("vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads")
    for field in (*positive, "num_kv_heads", "head_dim", "context_length"):
        if getattr(config, field) < 1:
            raise CheckpointError(
                f"{path}: {field} is {getattr(config, field)}; expected at least 1"
            )
    if config.num_heads % config.num_kv_heads:
        raise CheckpointError(
            f"{path}: {config.num_heads} attention heads do not divide among "
            f"{config.num_kv_heads} KV heads"
        )
    if config.head_dim % 2:
        raise CheckpointError(f"{path}: head_dim is {config.head_dim}; rotary needs an even number")
