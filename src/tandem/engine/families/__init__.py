"""The model families, by the architecture that a `config.json` names.

A row states how to read, load and weigh its models; `models` of a backend compute them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tandem.engine.checkpoint.config import CONFIG_FILE, ModelConfig, read_identity
from tandem.engine.checkpoint.dtypes import ITEM_BYTES, CacheFormat
from tandem.engine.checkpoint.formats import open_weights, stored_dtype
from tandem.engine.checkpoint.layout import WeightBytes, specs_of
from tandem.engine.checkpoint.sharding import Span
from tandem.engine.families import deepseek, dense, gpt_oss, llama, moe
from tandem.engine.families.family import Family, Size
from tandem.errors import CheckpointError

if TYPE_CHECKING:
    from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor

__all__ = [
    "FAMILIES",
    "Family",
    "Size",
    "end_bytes",
    "family_of",
    "kv_bytes_per_token",
    "layer_bytes",
    "model_bytes",
    "parameter_count",
    "read_bytes",
    "read_config",
    "tensor_shapes",
    "weigh",
]

FAMILIES: dict[str, Family[Any, Any]] = {
    **llama.FAMILIES,
    **dense.FAMILIES,
    **moe.FAMILIES,
    **gpt_oss.FAMILIES,
    **deepseek.FAMILIES,
}


def family_of(config: ModelConfig) -> Family[Any, Any]:
    return FAMILIES[config.architecture]


def read_config(directory: Path) -> ModelConfig:
    """Reads `config.json` and, if it is there, `generation_config.json`.

    Where it says no type of numbers the weights do, as for `transformers`; those of double
    precision are taken as float32. Raises CheckpointError naming the file, the field and what was
    expected.
    """
    architecture = _architecture(directory)
    if architecture not in FAMILIES:
        raise CheckpointError(
            f"{directory / CONFIG_FILE}: architecture {architecture} is not supported; "
            f"expected one of {', '.join(sorted(FAMILIES))}"
        )
    config: ModelConfig = FAMILIES[architecture].read_config(architecture, directory)
    if config.dtype:
        return config
    stored = stored_dtype(directory)
    return msgspec.structs.replace(config, dtype=stored if stored in ITEM_BYTES else "float32")


def _architecture(directory: Path) -> str:
    """That of the `model_type`, which decides for `transformers` too, or else the one stated."""
    stated = read_identity(directory)
    architecture = stated.architectures[0] if stated.architectures else None
    if architecture is None or architecture in FAMILIES:
        for known, family in FAMILIES.items():
            if family.name == stated.model_type:
                return known
    return architecture or f"of model_type {stated.model_type!r}"


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor that the checkpoint must hold, by its full name."""
    return {spec.name: spec.file_shape for spec in specs_of(family_of(config).tensors(config))}


def parameter_count(config: ModelConfig) -> int:
    return sum(spec.count for spec in specs_of(family_of(config).tensors(config)))


def weigh(
    config: ModelConfig,
    directory: Path,
    each: float,
    keeps: Callable[[QuantizedTensor], bool] = lambda _: True,
) -> WeightBytes:
    """What a model's tensors take, by the headers of its files. Raises CheckpointError.

    `each` is for a number of those that are loaded as floating-point numbers, as are those of few
    bits that a backend does not keep: it is asked with a row of each kind.
    """
    family, kept, kinds = family_of(config), dict[str, float](), dict[str, bool]()
    expected = tensor_shapes(config)
    with open_weights(
        directory, "numpy", expected, family.ignored(config), family.renamed
    ) as source:
        for name, shape in expected.items():
            stored = source.stored(name)
            if stored.quantized and stored.dtype not in kinds:
                row = source.quantized(name, Span(0, 1), None, 0 if len(shape) > 2 else None)
                kinds[stored.dtype] = row is not None and keeps(row)
            if kinds.get(stored.dtype, False):
                kept[name] = stored.nbytes / math.prod(shape)
    return WeightBytes(each, kept)


def layer_bytes(config: ModelConfig, weights: WeightBytes) -> list[int]:
    """The weights of each layer."""
    return family_of(config).layer_bytes(config, weights)


def read_bytes(config: ModelConfig, weights: WeightBytes) -> list[int]:
    """What of each layer's weights one token reads."""
    return family_of(config).read_bytes(config, weights)


def end_bytes(config: ModelConfig, weights: WeightBytes) -> int:
    """The embedding or the head, whichever takes more."""
    tensors = family_of(config).tensors(config)
    return max(weights.of(tensors.embedding), weights.of(tensors.head or tensors.embedding))


def model_bytes(config: ModelConfig, weights: WeightBytes) -> int:
    """All weights."""
    return sum(map(weights.of, specs_of(family_of(config).tensors(config))))


def kv_bytes_per_token(config: ModelConfig, dtype: str, kept: CacheFormat | None = None) -> int:
    """Bytes that the cache takes for one token of context, in all layers."""
    return family_of(config).kv_bytes_per_token(config, dtype, kept)
