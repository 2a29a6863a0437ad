"""What a checkpoint is, by its headers and other files: no weights are loaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec

from tandem.engine import families
from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.dtypes import ITEM_BYTES
from tandem.engine.checkpoint.formats import open_weights
from tandem.engine.checkpoint.generation_config import SamplingDefaults, read_sampling_defaults
from tandem.engine.checkpoint.layout import WeightBytes
from tandem.engine.checkpoint.sharding import split
from tandem.engine.limits import end_tokens
from tandem.engine.text.tokenizer import Tokenizer

#: How many ranks a model's division is told for.
_RANKS = (2, 3, 4, 6, 8)


class CheckpointSummary(msgspec.Struct, frozen=True):
    """`weight_formats` counts tensors by how their numbers are stored, `bits_per_weight` are those
    of a number in the files.

    The weights take `memory_bytes` in memory, in the checkpoint's dtype where they are not
    quantised. Divided, the largest rank takes as many as stand at each number of ranks: those
    that are possible.
    """

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
    weight_formats: dict[str, int]
    bits_per_weight: float
    memory_bytes: int
    tensor_parallel_bytes: dict[int, int]
    pipeline_bytes: dict[int, int]
    kv_bytes_per_token: int
    end_tokens: list[int]
    chat_template: bool
    sampling: SamplingDefaults


def inspect_checkpoint(directory: Path) -> CheckpointSummary:
    """Checks the whole checkpoint against its config. Raises CheckpointError as loading would."""
    config = families.read_config(directory)
    shapes = families.tensor_shapes(config)
    family = families.family_of(config)
    names = (family.ignored(config), family.renamed)
    with open_weights(directory, "numpy", shapes, *names) as weights:
        files = set(weights.files.values())
        stored = Counter(weights.stored(name).dtype for name in shapes)
    tokenizer = Tokenizer(directory)
    parameters, file_bytes = families.parameter_count(config), _sizes(files)
    weighed = families.weigh(config, directory, ITEM_BYTES[config.dtype])
    memory_bytes = families.model_bytes(config, weighed)
    return CheckpointSummary(
        architecture=config.architecture,
        parameters=parameters,
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
        weight_bytes=file_bytes,
        weight_formats=dict(stored.most_common()),
        bits_per_weight=round(8 * file_bytes / parameters, 2),
        memory_bytes=memory_bytes,
        tensor_parallel_bytes={
            ranks: memory_bytes // ranks for ranks in _RANKS if config.num_kv_heads % ranks == 0
        },
        pipeline_bytes={
            ranks: _largest_stage(config, weighed, ranks)
            for ranks in _RANKS
            if ranks <= config.num_layers
        },
        kv_bytes_per_token=families.kv_bytes_per_token(config, config.dtype),
        end_tokens=sorted(end_tokens(config, tokenizer)),
        chat_template=tokenizer.has_chat_template,
        sampling=read_sampling_defaults(directory),
    )


def _sizes(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files)


def _largest_stage(config: ModelConfig, weights: WeightBytes, ranks: int) -> int:
    """Of a pipeline of equally many layers a rank; its ends have a vocabulary each."""
    layers, end = families.layer_bytes(config, weights), families.end_bytes(config, weights)
    stages = []
    for rank in range(ranks):
        own = split(config.num_layers, rank, ranks)
        ends = (own.start == 0) + (own.stop == config.num_layers)
        stages.append(sum(layers[own.start : own.stop]) + ends * end)
    return max(stages)
