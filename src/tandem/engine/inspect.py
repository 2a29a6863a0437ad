"""What a checkpoint is, by its headers and other files: no weights are loaded."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tandem.engine import families
from tandem.engine.checkpoint.formats import open_weights
from tandem.engine.checkpoint.generation_config import SamplingDefaults, read_sampling_defaults
from tandem.engine.limits import end_tokens
from tandem.engine.text.tokenizer import Tokenizer


class CheckpointSummary(msgspec.Struct, frozen=True):
    architecture: str
    parameters: int
    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    context_length: int
    dtype: str
    tie_word_embeddings: bool
    tensors: int
    files: int
    weight_bytes: int
    kv_bytes_per_token: int
    end_tokens: list[int]
    sampling: SamplingDefaults


def inspect_checkpoint(directory: Path) -> CheckpointSummary:
    """Checks the whole checkpoint against its config. Raises CheckpointError as loading would."""
    config = families.read_config(directory)
    shapes = families.tensor_shapes(config)
    family = families.family_of(config)
    names = (family.ignored_tensors, family.renamed)
    with open_weights(directory, "numpy", shapes, *names) as weights:
        files = set(weights.files.values())
    return CheckpointSummary(
        architecture=config.architecture,
        parameters=families.parameter_count(config),
        layers=config.num_layers,
        hidden_size=config.hidden_size,
        heads=config.num_heads,
        kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
        context_length=config.context_length,
        dtype=config.dtype,
        tie_word_embeddings=config.tie_word_embeddings,
        tensors=len(shapes),
        files=len(files),
        weight_bytes=sum(file.stat().st_size for file in files),
        kv_bytes_per_token=families.kv_bytes_per_token(config, config.dtype),
        end_tokens=sorted(end_tokens(config, Tokenizer(directory))),
        sampling=read_sampling_defaults(directory),
    )
