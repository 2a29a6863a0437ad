"""What all families have in common: the sizes that engines, caches and plans go by.

A family extends both structs: `RawConfig` by what it reads from Hugging Face's `config.json`,
`ModelConfig` by what its layers need.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from tandem.engine.checkpoint.dtypes import ITEM_BYTES
from tandem.engine.checkpoint.files import read_json
from tandem.errors import CheckpointError

CONFIG_FILE = "config.json"


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder with grouped-query attention. Sizes count elements, not bytes.

    `sliding_windows` has each layer's attention window in tokens, None for full attention.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_length: int
    tie_word_embeddings: bool
    sliding_windows: tuple[int | None, ...]
    dtype: str
    eos_token_ids: frozenset[int]


class RawConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of `config.json` that decide the computation; the rest is ignored."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int | None = None
    head_dim: int | None = None
    max_position_embeddings: int
    tie_word_embeddings: bool | None = None
    torch_dtype: str | None = None
    dtype: str | None = None
    eos_token_id: int | list[int] | None = None
    quantization_config: msgspec.Raw | None = None


class _Architectures(msgspec.Struct, frozen=True):
    architectures: list[str]


class _RawGenerationConfig(msgspec.Struct, frozen=True):
    eos_token_id: int | list[int] | None = None


def read_architecture(directory: Path) -> str:
    """The model's class, as `config.json` names it. Raises CheckpointError."""
    names = read_json(directory / CONFIG_FILE, _Architectures).architectures
    return names[0] if names else "none"


def common_fields(raw: RawConfig, directory: Path) -> dict[str, Any]:
    """Those of `ModelConfig`, but for the architecture and the windows.

    Raises CheckpointError naming the file, the field and what was expected.
    """
    path = directory / CONFIG_FILE
    if raw.quantization_config is not None and bytes(raw.quantization_config) != b"null":
        raise CheckpointError(
            f"{path}: quantization_config is not supported; use an unquantized checkpoint "
            "and --quantize int8"
        )
    dtype = (raw.dtype or raw.torch_dtype or "float32").removeprefix("torch.")
    if dtype not in ITEM_BYTES:
        raise CheckpointError(
            f"{path}: dtype {dtype!r} is not supported; expected one of {tuple(ITEM_BYTES)}"
        )
    fields = {
        "vocab_size": raw.vocab_size,
        "hidden_size": raw.hidden_size,
        "intermediate_size": raw.intermediate_size,
        "num_layers": raw.num_hidden_layers,
        "num_heads": raw.num_attention_heads,
        "num_kv_heads": raw.num_key_value_heads or raw.num_attention_heads,
        "head_dim": raw.head_dim or raw.hidden_size // max(1, raw.num_attention_heads),
        "context_length": raw.max_position_embeddings,
    }
    _check_sizes(fields, path)
    others = {
        "tie_word_embeddings": bool(raw.tie_word_embeddings),
        "dtype": dtype,
        "eos_token_ids": _eos_token_ids(raw, directory),
    }
    return fields | others


def _check_sizes(fields: dict[str, int], path: Path) -> None:
    for field, value in fields.items():
        if value < 1:
            raise CheckpointError(f"{path}: {field} is {value}; expected at least 1")
    if fields["num_heads"] % fields["num_kv_heads"]:
        raise CheckpointError(
            f"{path}: {fields['num_heads']} attention heads do not divide among "
            f"{fields['num_kv_heads']} KV heads"
        )


def _eos_token_ids(raw: RawConfig, directory: Path) -> frozenset[int]:
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
