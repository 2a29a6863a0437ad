"""A GGUF's fields as Hugging Face's `config.json` and `generation_config.json` would say them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tandem.engine.checkpoint.gguf.architectures import find_architecture
from tandem.engine.checkpoint.gguf.model import GgufModel
from tandem.errors import CheckpointError

_EMBEDDING, _HEAD = "token_embd.weight", "output.weight"
#: One number by which each frequency of the rotation is divided, as Llama 3 has them.
ROPE_FACTORS = "rope_freqs.weight"
_LONG, _SHORT = "rope_factors_long.weight", "rope_factors_short.weight"
#: What Llama 3 and its descendants have; of their factors a file has only the outcome.
_LLAMA3 = {
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def config_of(model: GgufModel) -> dict[str, Any]:
    """Raises CheckpointError naming the field that is missing, or that no family has so."""
    row = find_architecture(model)
    name = model.needed("general.architecture", str)
    heads = _one(model, f"{name}.attention.head_count")
    hidden = model.needed(f"{name}.embedding_length", int)
    head_dim = head_width(model)
    if (model.stated(f"{name}.attention.value_length", int) or head_dim) != head_dim:
        raise CheckpointError(
            f"{model.path}: {name}.attention.value_length is not its key_length: not supported"
        )
    fields = {
        "architectures": [row.class_name],
        "model_type": row.model_type,
        "vocab_size": _vocabulary(model),
        "hidden_size": hidden,
        "intermediate_size": _width(model, name),
        "num_hidden_layers": model.needed(f"{name}.block_count", int),
        "num_attention_heads": heads,
        "num_key_value_heads": _one(model, f"{name}.attention.head_count_kv", heads),
        "head_dim": head_dim,
        "max_position_embeddings": model.needed(f"{name}.context_length", int),
        "tie_word_embeddings": _HEAD not in model.tensors,
        "torch_dtype": _dtype(model),
        row.epsilon: _norm_eps(model, name),
        **row.fields(model, name),
        **_rope(model, name, head_dim),
    }
    return fields | _special_ids(model)


def generation_config_of(model: GgufModel) -> dict[str, Any]:
    """Raises CheckpointError."""
    return {"eos_token_id": sorted(end_ids(model))}


def end_ids(model: GgufModel) -> set[int]:
    """What ends a text, a turn or a message, by the file's word or by what such tokens are called.

    Most files name one token only, though their models end with several.
    """
    found = {model.stated(f"tokenizer.ggml.{name}_token_id", int) for name in ("eos", "eot", "eom")}
    tokens = model.texts("tokenizer.ggml.tokens") or []
    kinds = model.numbers("tokenizer.ggml.token_type")
    special = range(len(tokens)) if kinds is None else np.flatnonzero(np.isin(kinds, (3, 4)))
    called = {tokens[number]: int(number) for number in special if number < len(tokens)}
    ends = _HARMONY_ENDS if set(called) >= _HARMONY_ENDS else _ENDS
    return {number for number in found if number is not None} | {
        called[text] for text in ends if text in called
    }


#: Tokens after which no model goes on.
_ENDS = {
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end|>",
    "<end_of_turn>",
    "<|END_OF_TURN_TOKEN|>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "<EOT>",
}
#: Where a turn has several messages, of which each but the last ends with `<|end|>`.
_HARMONY_ENDS = {"<|return|>", "<|call|>"}


def head_width(model: GgufModel) -> int:
    """Numbers of a head. Raises CheckpointError."""
    name = model.needed("general.architecture", str)
    heads = _one(model, f"{name}.attention.head_count")
    hidden = model.needed(f"{name}.embedding_length", int)
    return model.stated(f"{name}.attention.key_length", int) or hidden // max(1, heads)


def _one(model: GgufModel, key: str, default: int | None = None) -> int:
    """A number that files may state for each layer, where all have the same."""
    value = model.fields.get(key, default)
    if isinstance(value, np.ndarray) and len(value) and (value == value[0]).all():
        value = value[0].item()
    if isinstance(value, np.ndarray):
        raise CheckpointError(f"{model.path}: {key} differs between layers: not supported")
    if value is None or (not isinstance(value, int) or isinstance(value, bool)):
        return model.needed(key, int)
    return value


def _width(model: GgufModel, name: str) -> int:
    """Columns of an MLP, or of an expert where there are no others."""
    experts = model.stated(f"{name}.expert_feed_forward_length", int)
    return _one(model, f"{name}.feed_forward_length", experts)


def _vocabulary(model: GgufModel) -> int:
    if _EMBEDDING not in model.tensors:
        raise CheckpointError(f"{model.path}: tensor {_EMBEDDING} is missing")
    return model.tensors[_EMBEDDING].shape[0]


def _dtype(model: GgufModel) -> str:
    """What the most numbers are in; numbers of few bits are computed with in bfloat16."""
    counted: dict[str, int] = {}
    for info in model.tensors.values():
        dtype = info.type.dtype or "bfloat16"
        counted[dtype] = counted.get(dtype, 0) + info.nbytes
    most = max(counted, key=lambda dtype: counted[dtype])
    return "float32" if most == "float64" else most


def _norm_eps(model: GgufModel, name: str) -> float:
    prefix = f"{name}.attention.layer_norm_"
    stated = model.stated(prefix + "rms_epsilon", float)
    return model.needed(prefix + "epsilon", float) if stated is None else stated


def _special_ids(model: GgufModel) -> dict[str, int]:
    names = {"bos": "bos", "eos": "eos", "padding": "pad"}
    stated = {
        f"{ours}_token_id": model.stated(f"tokenizer.ggml.{theirs}_token_id", int)
        for theirs, ours in names.items()
    }
    return {name: number for name, number in stated.items() if number is not None}


def _rope(model: GgufModel, name: str, head_dim: int) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    theta = model.stated(f"{name}.rope.freq_base", float)
    if theta is not None:
        fields["rope_theta"] = theta
    rotated = model.stated(f"{name}.rope.dimension_count", int) or head_dim
    if rotated != head_dim:
        fields["partial_rotary_factor"] = rotated / head_dim
    scaling = _rope_scaling(model, name, rotated, theta or 10000.0)
    return fields if scaling is None else fields | {"rope_scaling": scaling}


def _rope_scaling(model: GgufModel, name: str, rotated: int, theta: float) -> dict[str, Any] | None:
    if ROPE_FACTORS in model.tensors:
        return _llama3(model, rotated, theta)
    prefix = f"{name}.rope.scaling."
    original = model.stated(prefix + "original_context_length", int)
    if _LONG in model.tensors:
        return {
            "rope_type": "longrope",
            "long_factor": _vector(model, _LONG),
            "short_factor": _vector(model, _SHORT),
            "original_max_position_embeddings": original,
            "attention_factor": _longrope_attention(model, name, original),
        }
    rule = model.stated(prefix + "type", str) or "none"
    factor = model.stated(prefix + "factor", float)
    if rule == "none" or factor is None:
        return None
    if factor <= 0:
        raise CheckpointError(f"{model.path}: {prefix}factor is {factor}; expected more than 0")
    if rule == "linear":
        return {"rope_type": "linear", "factor": factor}
    if rule == "yarn":
        return {
            "rope_type": "yarn",
            "factor": factor,
            "truncate": name != "gpt-oss",  # which was trained without
            "original_max_position_embeddings": original,
            "attention_factor": _yarn_attention(
                factor, model.stated(prefix + "attn_factor", float)
            ),
            "beta_fast": model.stated(prefix + "yarn_beta_fast", float),
            "beta_slow": model.stated(prefix + "yarn_beta_slow", float),
        }
    raise CheckpointError(f"{model.path}: {prefix}type {rule!r} is not supported")


def _longrope_attention(model: GgufModel, name: str, original: int | None) -> float | None:
    """As stated, where that is not what follows from how much the context has grown."""
    stated = model.stated(f"{name}.rope.scaling.attn_factor", float)
    grown = model.needed(f"{name}.context_length", int) / max(2, original or 2)
    follows = math.sqrt(1 + math.log(grown) / math.log(max(2, original or 2))) if grown > 1 else 1.0
    return None if stated is None or math.isclose(stated, follows, rel_tol=1e-6) else stated


def _yarn_attention(factor: float, stated: float | None) -> float | None:
    """A file states by what the usual number is multiplied."""
    return None if stated is None else stated * (1 + 0.1 * math.log(factor))


def _llama3(model: GgufModel, rotated: int, theta: float) -> dict[str, Any]:
    """The rule whose outcome the factors are. Raises CheckpointError where none is known."""
    found = np.array(_vector(model, ROPE_FACTORS))
    wavelengths = 2 * np.pi * theta ** (np.arange(0, rotated, 2) / rotated)
    factor, original = float(found.max(initial=1.0)), _LLAMA3["original_max_position_embeddings"]
    low, high = _LLAMA3["low_freq_factor"], _LLAMA3["high_freq_factor"]
    kept = np.clip((original / wavelengths - low) / (high - low), 0, 1)
    expected = 1 / ((1 - kept) / factor + kept)
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=1e-4):
        raise CheckpointError(
            f"{model.path}: tensor {ROPE_FACTORS} follows no rule that is known: not supported"
        )
    return {"rope_type": "llama3", "factor": round(factor, 4), **_LLAMA3}


def _vector(model: GgufModel, name: str) -> list[float]:
    info = model.tensors.get(name)
    if info is None or info.type.name != "F32" or len(info.shape) != 1:
        raise CheckpointError(f"{model.path}: tensor {name} is no vector of F32")
    numbers = model.blocks(name).reshape(-1, 4).copy().view("<f4")
    # The shortest numbers that these are the nearest of, as configs state them.
    return [float(str(number)) for number in numbers.reshape(-1)]
