"""What a node tells the others before a plan is made: its model, its memory, its speed."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from tandem.engine import (
    ITEM_BYTES,
    ModelConfig,
    ModelSetup,
    draft_bytes,
    end_bytes,
    kv_bytes_per_token,
    layer_bytes,
    quantization_settings,
    read_bytes,
    weigh,
    weight_files,
    weight_item_bytes,
)
from tandem.errors import CheckpointError
from tandem.protocol.cluster import ModelFacts

_SAMPLES, _SAMPLE_BYTES = 64, 4096
#: What is longer, such as a list of all layers, is told by its digest.
_LONGEST_SETTING = 64


class NodeFacts(msgspec.Struct, frozen=True):
    model: ModelFacts
    bytes_per_s: float


def measure_node(setup: ModelSetup, name: str) -> NodeFacts:
    """Reads and computes for a moment: call it on a worker thread."""
    return NodeFacts(model_facts(setup, name), setup.backend.decode_bytes_per_s(setup))


def model_facts(setup: ModelSetup, name: str) -> ModelFacts:
    """Reads samples of the weights, not all of them: other weights differ everywhere.

    Raises CheckpointError.
    """
    config, quantization = setup.config, setup.options.quantization
    directory = setup.options.directory
    each = weight_item_bytes(setup.dtype, quantization)
    keeps = partial(setup.backend.keeps, device=setup.device)
    weighed = weigh(config, directory, each, keeps)
    ends = msgspec.structs.replace(weighed, each=ITEM_BYTES[setup.dtype])
    try:
        tokenizer = _tokenizer_digest(directory / "tokenizer.json")
        weights = _weights_digest(directory)
    except OSError as error:
        raise CheckpointError(f"{directory}: cannot be read: {error.strerror or error}") from error
    return ModelFacts(
        name=name,
        settings=_settings(config, quantization_settings(directory)),
        tokenizer=tokenizer,
        weights=weights,
        kv_heads=config.num_kv_heads,
        layer_bytes=layer_bytes(config, weighed),
        read_bytes=read_bytes(config, weighed),
        embedding_bytes=end_bytes(config, ends),
        # Rounded, the head is beside the embedding, which stays as it is.
        tied=config.tie_word_embeddings and quantization is None,
        kv_bytes_per_token=kv_bytes_per_token(config, setup.dtype, setup.kv_cache),
        dtype=_number_formats(setup),
        kv_divides=config.latent is None,
    )


def _number_formats(setup: ModelSetup) -> str:
    """Of states, of weights and, where it is another one than the states', of the cache."""
    options = setup.options
    formats = f"{setup.dtype}/{options.quantization or 'whole'}"
    return formats if setup.kv_cache is None else f"{formats}/{setup.kv_cache} cache"


def _settings(config: ModelConfig, quantization: dict[str, Any] | None) -> dict[str, str]:
    """What decides the computation, however the file says it, and what the weights' codes mean.

    Two things are left out: the numbers' type, which is agreed upon by itself, and the end tokens,
    which only rank 0 looks at.
    """
    settings = {}
    stated = {} if quantization is None else {"quantization": quantization}
    for name, value in (msgspec.structs.asdict(config) | stated).items():
        if name not in {"dtype", "eos_token_ids"}:
            text = msgspec.json.encode(value, order="sorted")
            is_long = len(text) > _LONGEST_SETTING
            settings[name] = hashlib.sha256(text).hexdigest()[:16] if is_long else text.decode()
    return settings


def _tokenizer_digest(path: Path) -> str:
    """Of what the file says, not of how it is written."""
    data = path.read_bytes()
    try:
        said = msgspec.json.decode(data, type=dict[str, Any])
    except msgspec.MsgspecError:  # the tokenizer has read it: then this is all the same to it
        return hashlib.sha256(data).hexdigest()
    for name in ("truncation", "padding"):  # which are not ours to apply
        said.pop(name, None)
    model = said.get("model")
    if isinstance(model, dict) and isinstance(model.get("merges"), list):
        # As pairs, or as one text with a space: that depends on what wrote the file.
        model["merges"] = [
            pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]
        ]
    return hashlib.sha256(msgspec.json.encode(said, order="sorted")).hexdigest()


def _weights_digest(directory: Path) -> str:
    """SHA-256 over names, sizes and evenly spread samples of the weights' files."""
    digest = hashlib.sha256()
    for path in weight_files(directory):
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            digest.update(f"{path.name} {size}".encode())
            for sample in range(_SAMPLES):
                file.seek(max(0, size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()


def available_memory_bytes(setup: ModelSetup) -> int:
    """Of the device that the model is to be on, now, beside a draft model."""
    return max(0, setup.backend.free_bytes(setup.device) - draft_bytes(setup))
