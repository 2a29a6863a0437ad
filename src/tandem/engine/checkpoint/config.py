"""What all families have in common: the sizes that engines, caches and plans go by.

A family extends both structs: `RawConfig` by what it reads from Hugging Face's `config.json`,
`ModelConfig` by what its layers need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tandem.engine.checkpoint.dtypes import ITEM_BYTES
from tandem.engine.checkpoint.files import convert, read_json
from tandem.engine.checkpoint.generation_config import id_set, read_end_tokens
from tandem.errors import CheckpointError

CONFIG_FILE = "config.json"

#: Far above every model there is; a config that says more would cost memory before a file is read.
_LARGEST = {
    "vocab_size": 2**24,
    "hidden_size": 2**18,
    "intermediate_size": 2**20,
    "num_hidden_layers": 2**10,
    "num_attention_heads": 2**12,
    "num_key_value_heads": 2**12,
    "head_dim": 2**12,
    "max_position_embeddings": 2**31,
}


class Latent(msgspec.Struct, frozen=True):
    """What all heads of a token share in place of keys and values (DeepSeek-AI, 2024).

    The first `rank` numbers are what each head's `plain` numbers of a key and `values` of a value
    are made of; `rotated` ones behind them belong to the keys of all heads. Queries are of `plain`
    and `rotated` numbers, made of `query_rank` ones, or of states if None. Two that rotate together
    are next to each other in files if there are `pairs`, or half of them apart.
    """

    rank: int
    rotated: int
    plain: int
    values: int
    query_rank: int | None
    pairs: bool

    @property
    def width(self) -> int:
        """Numbers of a token in the cache of a layer."""
        return self.rank + self.rotated


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """A decoder with grouped-query attention, or with a `latent`. Sizes count elements, not bytes.

    Tensor-parallel ranks divide `num_kv_heads`: with a latent, which each rank has as a whole, they
    are as many as those of queries. `num_experts` and `shared_columns`, those of an MLP that all
    tokens have beside their experts, are 0 where there are none. `sliding_windows` has each layer's
    attention window in tokens, None for full attention. `dtype` is that of the weights where
    `config.json` says none.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_experts: int = 0
    shared_columns: int = 0
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    latent: Latent | None = None
    context_length: int
    tie_word_embeddings: bool
    sliding_windows: tuple[int | None, ...]
    dtype: str
    eos_token_ids: frozenset[int]


class RawConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of `config.json` that decide the computation; the rest is ignored.

    `num_key_value_heads` None is as many as there are heads, `head_dim` None what they divide
    `hidden_size` into.
    """

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
    eos_token_id: int | list[int] | msgspec.UnsetType | None = msgspec.UNSET


Raw = TypeVar("Raw", bound=RawConfig)


class Identity(msgspec.Struct, frozen=True):
    """What `config.json` says a model is: the class that computes it, and its family's name."""

    architectures: list[str] | None = None
    model_type: str | None = None


def read_identity(directory: Path) -> Identity:
    """Raises CheckpointError."""
    return read_json(directory / CONFIG_FILE, Identity)


def read_raw(directory: Path, kind: type[Raw], defaults: Mapping[str, Any]) -> Raw:
    """`config.json`, with `defaults` for fields that it does not have. Raises CheckpointError."""
    path = directory / CONFIG_FILE
    return convert({**defaults, **read_json(path, dict[str, Any])}, kind, path)


def common_fields(
    raw: RawConfig, directory: Path, default_eos: int | Sequence[int] | None = None
) -> dict[str, Any]:
    """Those of `ModelConfig`, but for the architecture and the windows.

    `default_eos` ends a text where no file says what does. Raises CheckpointError naming the file,
    the field and what was expected.
    """
    path = directory / CONFIG_FILE
    sizes = _checked_sizes(raw, path)
    return {
        "vocab_size": sizes["vocab_size"],
        "hidden_size": sizes["hidden_size"],
        "intermediate_size": sizes["intermediate_size"],
        "num_layers": sizes["num_hidden_layers"],
        "num_heads": sizes["num_attention_heads"],
        "num_kv_heads": sizes["num_key_value_heads"],
        "head_dim": sizes["head_dim"],
        "context_length": sizes["max_position_embeddings"],
        "tie_word_embeddings": bool(raw.tie_word_embeddings),
        "dtype": _dtype(raw, directory),
        "eos_token_ids": _eos_token_ids(raw, directory, default_eos),
    }


def _dtype(raw: RawConfig, directory: Path) -> str:
    """As stated; empty where it is not."""
    dtype = (raw.dtype or raw.torch_dtype or "").removeprefix("torch.")
    if dtype and dtype not in ITEM_BYTES:
        raise CheckpointError(
            f"{directory / CONFIG_FILE}: dtype {dtype!r} is not supported; expected one of "
            f"{tuple(ITEM_BYTES)}"
        )
    return dtype


def _checked_sizes(raw: RawConfig, path: Path) -> dict[str, int]:
    """By their names in the file, complete and within `_LARGEST`."""
    heads = raw.num_attention_heads
    missing = {
        "num_key_value_heads": heads,
        "head_dim": raw.hidden_size // max(1, heads),
    }
    sizes = {}
    for field, most in _LARGEST.items():
        value = getattr(raw, field)
        sizes[field] = missing[field] if value is None else value
        if not 1 <= sizes[field] <= most:
            shown = sizes[field] if abs(sizes[field]) < 10**15 else "out of all bounds"
            raise CheckpointError(f"{path}: {field} is {shown}; expected 1 to {most}")
    if heads % sizes["num_key_value_heads"]:
        raise CheckpointError(
            f"{path}: {heads} attention heads do not divide among "
            f"{sizes['num_key_value_heads']} KV heads"
        )
    return sizes


def _eos_token_ids(
    raw: RawConfig, directory: Path, default: int | Sequence[int] | None
) -> frozenset[int]:
    """Every id that either file names: Llama 3 has two, in `generation_config.json` only."""
    ids = read_end_tokens(directory)
    if raw.eos_token_id is msgspec.UNSET:
        return frozenset(ids or id_set(default))
    return frozenset(ids | id_set(raw.eos_token_id))
