"""What a node tells the others before a plan is made: its model, its memory, its speed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from tandem.engine import (
    ITEM_BYTES,
    ModelSetup,
    kv_bytes_per_token,
    layer_bytes,
    weight_files,
    weight_item_bytes,
)
from tandem.protocol.cluster import ModelFacts

_SAMPLES, _SAMPLE_BYTES = 64, 4096


class NodeFacts(msgspec.Struct, frozen=True):
    model: ModelFacts
    bytes_per_s: float


def measure_node(setup: ModelSetup, name: str) -> NodeFacts:
    """Reads and computes for a moment: call it on a worker thread."""
    return NodeFacts(model_facts(setup, name), setup.backend.decode_bytes_per_s(setup))


def model_facts(setup: ModelSetup, name: str) -> ModelFacts:
    """Reads samples of the weights, not all of them: other weights differ everywhere."""
    config, quantization = setup.config, setup.options.quantization
    item_bytes = weight_item_bytes(setup.dtype, quantization)
    return ModelFacts(
        name=name,
        digest=model_digest(setup.options.directory),
        kv_heads=config.num_kv_heads,
        layer_bytes=layer_bytes(config, item_bytes),
        embedding_bytes=config.vocab_size * config.hidden_size * ITEM_BYTES[setup.dtype],
        tied=config.tie_word_embeddings,
        kv_bytes_per_token=kv_bytes_per_token(config, setup.dtype),
        dtype=f"{setup.dtype}/{quantization or 'whole'}",
    )


def model_digest(directory: Path) -> str:
    """SHA-256 over the configuration, the tokenizer and evenly spread samples of the weights."""
    digest = hashlib.sha256()
    for name in ("config.json", "tokenizer.json"):
        digest.update(hashlib.sha256((directory / name).read_bytes()).digest())
    for path in weight_files(directory):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            for sample in range(_SAMPLES):
                file.seek(max(0, size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def available_memory_bytes(setup: ModelSetup) -> int:
    """Of the device that the model is to be on, now."""
    return setup.backend.free_bytes(setup.device)
