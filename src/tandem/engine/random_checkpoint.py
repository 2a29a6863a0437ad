"""Random-weight checkpoints of any family and size, for tests and benchmarks. They speak noise."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.dtypes import ITEM_BYTES
from tandem.engine.checkpoint.layout import TensorSpec, specs_of
from tandem.engine.families import FAMILIES, Size, family_of, read_config
from tandem.errors import ConfigurationError

if TYPE_CHECKING:
    import torch

_MAX_FILE_BYTES = 2 * 1024**3
_DEVIATION = 0.02

SIZES: dict[str, Size] = {
    "tiny": Size(2, 64, 176, 4, 2, 16, 384, 1024),
    "small": Size(4, 256, 704, 8, 4, 32, 2048),
    "300m": Size(16, 1024, 2816, 16, 8, 64, 32_000),
    "1b": Size(16, 2048, 8192, 32, 8, 64, 128_256),
    "3b": Size(28, 3072, 8192, 24, 8, 128, 128_256),
    "8b": Size(32, 4096, 14_336, 32, 8, 128, 128_256),
}

_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message.role + ': ' + message.content + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


def create_checkpoint(
    directory: Path,
    *,
    family: str,
    size: str | Size = "tiny",
    seed: int = 0,
    dtype: str = "bfloat16",
    overrides: dict[str, Any] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Writes a directory in Hugging Face layout. `overrides` replace fields of `config.json`.

    `on_progress(tensors written, tensors)`. Raises ConfigurationError for an unknown family or
    size and when the directory already holds a model.
    """
    architectures = {row.name: architecture for architecture, row in FAMILIES.items()}
    if family not in architectures:
        raise ConfigurationError(f"family is {family!r}; expected one of {sorted(architectures)}")
    if isinstance(size, str) and size not in SIZES:
        raise ConfigurationError(f"size is {size!r}; expected one of {list(SIZES)}")
    if (directory / "config.json").exists():
        raise ConfigurationError(f"{directory} already holds a model; choose another directory")
    shape = SIZES[size] if isinstance(size, str) else size
    directory.mkdir(parents=True, exist_ok=True)
    fields = _config_fields(architectures[family], shape, dtype) | (overrides or {})
    config_file = FAMILIES[architectures[family]].config_file(fields)
    _write_json(directory / "config.json", config_file)
    _write_json(directory / "generation_config.json", {"eos_token_id": fields["eos_token_id"]})
    config = read_config(directory)
    _write_tokenizer(directory, config)
    _write_weights(directory, config, seed, on_progress)


def _config_fields(architecture: str, size: Size, dtype: str) -> dict[str, Any]:
    family = FAMILIES[architecture]
    common = {
        "architectures": [architecture],
        "model_type": family.name,
        "vocab_size": size.vocabulary,
        "hidden_size": size.hidden,
        "intermediate_size": size.intermediate,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "num_key_value_heads": size.kv_heads,
        "head_dim": size.head_dim,
        "max_position_embeddings": size.context,
        "torch_dtype": dtype,
        "bos_token_id": None,
        "pad_token_id": None,
        "eos_token_id": [0],
    }
    return common | family.example_config(size)


def _write_tokenizer(directory: Path, config: ModelConfig) -> None:
    """A byte-level vocabulary: 0 ends a text, 256 bytes follow, the rest is noise."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<|endoftext|>", *alphabet]
    pieces += [f"<{number}>" for number in range(len(pieces), config.vocab_size)]
    vocabulary = {piece: number for number, piece in enumerate(pieces[: config.vocab_size])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|endoftext|>",
        "chat_template": _CHAT_TEMPLATE,
    }
    _write_json(directory / "tokenizer_config.json", settings)


def _write_weights(
    directory: Path, config: ModelConfig, seed: int, on_progress: Callable[[int, int], None] | None
) -> None:
    import torch
    from safetensors.torch import save_file

    from tandem.engine.checkpoint.index import INDEX_FILE, SINGLE_FILE

    dtype: torch.dtype = getattr(torch, config.dtype)
    generator = torch.Generator().manual_seed(seed)
    stored = {spec.name: spec for spec in specs_of(family_of(config).tensors(config))}
    parts = _parts(list(stored.values()), ITEM_BYTES[config.dtype])
    done, total = itertools.count(1), sum(map(len, parts))
    for number, part in enumerate(parts, start=1):
        tensors = {}
        for spec in part:
            tensors[spec.name] = _random_tensor(spec, generator).to(dtype)
            if on_progress is not None:
                on_progress(next(done), total)
        file = SINGLE_FILE if len(parts) == 1 else _part_name(number)
        save_file(tensors, directory / file, metadata={"format": "pt"})
    if len(parts) > 1:
        files = {spec.name: _part_name(n) for n, part in enumerate(parts, 1) for spec in part}
        _write_json(directory / INDEX_FILE, {"metadata": {}, "weight_map": files})


def _parts(specs: list[TensorSpec], item_bytes: int) -> list[list[TensorSpec]]:
    """Files of at most 2 GiB, so that a large checkpoint is never in memory as a whole."""
    parts: list[list[TensorSpec]] = [[]]
    used = 0
    for spec in specs:
        size = math.prod(spec.file_shape) * item_bytes
        if parts[-1] and used + size > _MAX_FILE_BYTES:
            parts.append([])
            used = 0
        parts[-1].append(spec)
        used += size
    return parts


def _part_name(part: int) -> str:
    return f"model-{part:05d}.safetensors"


def _random_tensor(spec: TensorSpec, generator: torch.Generator) -> torch.Tensor:
    import torch

    tensor = torch.empty(spec.file_shape, dtype=torch.float32)
    return tensor.normal_(0.0, _DEVIATION, generator=generator) + spec.mean


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
