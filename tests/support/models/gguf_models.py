"""A folder in Hugging Face's layout as the GGUF that llama.cpp's converter makes of it.

Names of tensors are those of the format's own library; what is done to numbers, and the fields, as
the converter does it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, GGMLQuantizationType, get_tensor_name_map
from gguf.quants import dequantize
from safetensors.numpy import load_file
from tests.support.models.gguf_files import Array, quantised, write_gguf

from tandem.engine.checkpoint.gguf.model import GgufModel

_ARCHITECTURES = {
    "cohere": "command-r",
    "gemma3_text": "gemma3",
    "gpt_oss": "gpt-oss",
    "mistral": "llama",
    "mixtral": "llama",
    "olmo3": "olmo2",
    "qwen2_moe": "qwen2moe",
    "qwen3_moe": "qwen3moe",
}
#: Whose queries and keys are rotated by neighbours there.
_ROTATED = ("llama", "granite", "smollm3", "arcee")
_ORIGINAL = "original_max_position_embeddings"
_FIELDS = (
    ("block_count", "num_hidden_layers"),
    ("context_length", "max_position_embeddings"),
    ("embedding_length", "hidden_size"),
    ("feed_forward_length", "intermediate_size"),
    ("attention.head_count", "num_attention_heads"),
    ("attention.head_count_kv", "num_key_value_heads"),
    ("attention.key_length", "head_dim"),
    ("attention.value_length", "head_dim"),
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps"),
    ("rope.freq_base", "rope_theta"),
    ("attention.layer_norm_epsilon", "layer_norm_eps"),
    ("attention.sliding_window", "sliding_window"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
    ("embedding_scale", "embedding_multiplier"),
    ("residual_scale", "residual_multiplier"),
    ("attention.scale", "attention_multiplier"),
    ("logit_scale", "logits_scaling"),
    ("logit_scale", "logit_scale"),
    ("attention.layer_norm_epsilon", "norm_epsilon"),
    ("attention.layer_norm_epsilon", "norm_eps"),
    ("expert_count", "num_experts"),
    ("expert_count", "num_local_experts"),
    ("expert_used_count", "num_experts_per_tok"),
    ("expert_feed_forward_length", "moe_intermediate_size"),
)
#: Of three kinds: normal, control, and of a byte.
TINY_TOKENS = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "qwen2",
    "tokenizer.ggml.tokens": ["a", "b", "ab", "<s>", "</s>", "<|im_end|>"],
    "tokenizer.ggml.token_type": [1, 1, 1, 3, 3, 3],
    "tokenizer.ggml.merges": ["a b"],
    "tokenizer.ggml.bos_token_id": 3,
    "tokenizer.ggml.eos_token_id": 4,
}


def as_gguf(directory: Path, file: Path, kind: str = "F32", **options: Any) -> Path:  # noqa: ANN401
    """Matrices whose rows allow it are of that type."""
    config = json.loads((directory / "config.json").read_text())
    name = _ARCHITECTURES.get(config["model_type"], config["model_type"])
    tensors = _tensors(directory, config, name)
    written = {
        key: _as_kind(key, numbers.astype(np.float32), kind) for key, numbers in tensors.items()
    }
    fields = TINY_TOKENS | _fields(config, name)
    return write_gguf(file, name, fields, written, **options)


def _as_kind(name: str, numbers: Array, kind: str) -> Any:  # noqa: ANN401 - as they are written
    if kind == "F32" or numbers.ndim == 1 or numbers.shape[-1] % 32 or name.endswith(".bias"):
        return numbers
    return quantised(numbers, kind)


def _fields(config: dict[str, Any], name: str) -> dict[str, Any]:
    stated = {
        f"{name}.{ours}": config[theirs]
        for ours, theirs in _FIELDS
        if config.get(theirs) is not None
    }
    if name == "gemma3":  # which has another base for each kind of layer
        del stated["gemma3.rope.freq_base"]
    if "layer_types" in config and name == "olmo2":
        windows = [kind == "sliding_attention" for kind in config["layer_types"]]
        stated["olmo2.attention.sliding_window_pattern"] = windows
    return stated | {f"{name}.rope.{key}": value for key, value in _rotation(config).items()}


def _rotation(config: dict[str, Any]) -> dict[str, Any]:
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    usual = 0.5 if config["model_type"] == "glm4" else 1.0
    parts = (config.get("partial_rotary_factor"), rope.get("partial_rotary_factor"), usual)
    part = next(part for part in parts if part is not None)
    fields: dict[str, Any] = {"dimension_count": int(config["head_dim"] * part)}
    if "rope_theta" in rope:
        fields["freq_base"] = rope["rope_theta"]
    rule = rope.get("rope_type") or rope.get("type")
    if rule in ("linear", "yarn"):
        fields |= {"scaling.type": rule, "scaling.factor": rope["factor"]}
    originals = (rope, config)
    original = next((found for part in originals if (found := part.get(_ORIGINAL))), None)
    if original is not None and rule != "llama3":
        fields["scaling.original_context_length"] = original
    if rule in ("longrope", "su"):
        assert original is not None
        grown = config["max_position_embeddings"] / original
        factor = math.sqrt(1 + math.log(grown) / math.log(original)) if grown > 1 else 1.0
        fields["scaling.attn_factor"] = factor
    return fields


def _tensors(directory: Path, config: dict[str, Any], name: str) -> dict[str, Array]:
    architecture = next(arch for arch, found in MODEL_ARCH_NAMES.items() if found == name)
    assert isinstance(architecture, MODEL_ARCH)
    names = get_tensor_name_map(architecture, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    tensors = {}
    stored = _split(_stacked(load_file(directory / "model.safetensors")))
    for theirs, numbers in stored.items():
        if theirs.startswith("blk."):
            tensors[theirs] = np.ascontiguousarray(numbers)
            continue
        ours = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
        assert ours is not None, theirs
        ours += ".weight" if ours.endswith("sinks") else ""
        projection = theirs.split(".")[-2]
        if name in _ROTATED and projection in heads:
            numbers = _by_neighbours(numbers, heads[projection])  # noqa: PLW2901
        if name in ("gemma", "gemma2", "gemma3", "nemotron") and theirs.endswith("norm.weight"):
            numbers = numbers + 1  # noqa: PLW2901
        tensors[ours] = numbers[0] if "shexp" in ours and len(numbers) == 1 else numbers
    return tensors | _factors(config)


def _split(tensors: dict[str, Array]) -> dict[str, Array]:
    """gpt-oss's experts: outputs first, gate and up by themselves."""
    found = {}
    for name, numbers in tensors.items():
        layer = name.removeprefix("model.layers.").split(".")[0]
        if ".mlp.experts." not in name or "proj.weight" in name:
            found[name] = numbers
            continue
        end = "bias" if name.endswith("_bias") else "weight"
        turned = numbers if end == "bias" else numbers.swapaxes(1, 2)
        if "gate_up" in name:
            found[f"blk.{layer}.ffn_gate_exps.{end}"] = turned[:, ::2]
            found[f"blk.{layer}.ffn_up_exps.{end}"] = turned[:, 1::2]
        else:
            found[f"blk.{layer}.ffn_down_exps.{end}"] = turned
    return found


def _stacked(tensors: dict[str, Array]) -> dict[str, Array]:
    """Experts' tensors of a kind as one."""
    found: dict[str, Array] = {}
    stacks: dict[str, dict[int, Array]] = {}
    for name, numbers in tensors.items():
        before, expert, after = (*re.split(r"\.experts\.(\d+)\.", name), "", "")[:3]
        if expert:
            stacks.setdefault(f"{before}.experts.{after}", {})[int(expert)] = numbers
        else:
            found[name] = numbers
    for name, stack in stacks.items():
        found[name] = np.stack([stack[number] for number in sorted(stack)])
    return found


def _by_neighbours(numbers: Array, heads: int) -> Array:
    halves = numbers.reshape(heads, 2, -1, *numbers.shape[1:])
    return halves.swapaxes(1, 2).reshape(numbers.shape)


def _factors(config: dict[str, Any]) -> dict[str, Array]:
    """What frequencies are divided by, for rules that a file has no fields for."""
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    rule = rope.get("rope_type") or rope.get("type")
    if rule in ("longrope", "su"):
        return {
            f"rope_factors_{length}.weight": np.array(rope[f"{length}_factor"], np.float32)
            for length in ("long", "short")
        }
    if rule != "llama3":
        return {}
    theta, head = config["rope_theta"], config["head_dim"]
    original, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    found = []
    for pair in range(head // 2):
        length = 2 * math.pi * theta ** (2 * pair / head)
        if length < original / high:
            found.append(1.0)
        elif length > original / low:
            found.append(factor)
        else:
            smooth = (original / length - low) / (high - low)
            found.append(1 / ((1 - smooth) / factor + smooth))
    return {"rope_freqs.weight": np.array(found, np.float32)}


def as_state_dict(file: Path, names: Iterable[str], heads: dict[str, int]) -> dict[str, Array]:
    """A Llama's tensors by Hugging Face's names, in float32: read by the format's own library.

    `heads` are those of `q_proj` and `k_proj`.
    """
    with GgufModel(file) as model:
        layers = model.needed("llama.block_count", int)
        ours = get_tensor_name_map(MODEL_ARCH.LLAMA, layers)
        found = {}
        for theirs in names:
            name = ours.get_name(theirs, try_suffixes=(".weight", ".bias"))
            if name not in model.tensors:
                continue
            info = model.tensors[name]
            kind = GGMLQuantizationType[info.type.name]
            blocks = model.blocks(name)
            numbers = dequantize(blocks.reshape(len(blocks), -1), kind).reshape(info.shape)
            projection = theirs.split(".")[-2]
            found[theirs] = numbers
            if projection in heads:
                by_pair = numbers.reshape(heads[projection], -1, 2, *numbers.shape[1:])
                found[theirs] = by_pair.swapaxes(1, 2).reshape(numbers.shape)
        return found
