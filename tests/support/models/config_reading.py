"""A `config.json` as Tandem reads it, and as `transformers` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import AutoConfig, GenerationConfig

from tandem.engine import families
from tandem.engine.families.llama import LlamaConfig


def ours(folder: Path) -> dict[str, Any]:
    config = families.read_config(folder)
    assert isinstance(config, LlamaConfig)
    rope = config.rope_scaling
    scaled = rope.rope_type != "default"
    llama3 = rope.rope_type == "llama3"
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_dim,
        "max_position_embeddings": config.context_length,
        "tie_word_embeddings": config.tie_word_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "dtype": config.dtype,
        "biases": (config.qkv_bias, config.output_bias, config.mlp_bias),
        "windows": config.sliding_windows,
        "rope": (config.rope_theta, rope.rope_type, rope.factor if scaled else None),
        "llama3": rope.original_max_position_embeddings if llama3 else None,
        "ends": config.eos_token_ids,
    }


SAME = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "max_position_embeddings",
    "tie_word_embeddings",
    "rms_norm_eps",
)
#: Bias of queries, keys and values; of the output; of the MLP: as each model's code has it.
BIASES: dict[str, Callable[[Any], tuple[bool, bool, bool]]] = {
    "llama": lambda c: (c.attention_bias, c.attention_bias, c.mlp_bias),
    "mistral": lambda _: (False, False, False),
    "qwen2": lambda _: (True, False, False),
    "qwen3": lambda c: (c.attention_bias, c.attention_bias, False),
}


def theirs(folder: Path) -> dict[str, Any]:
    config: Any = AutoConfig.from_pretrained(folder)
    rope, layers = config.rope_parameters, config.num_hidden_layers
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
    window = getattr(config, "sliding_window", None)
    ends = GenerationConfig.from_model_config(config).eos_token_id
    return {name: getattr(config, name) for name in SAME} | {
        "head_dim": getattr(config, "head_dim", config.hidden_size // config.num_attention_heads),
        "dtype": str(config.dtype or "float32").removeprefix("torch."),
        "biases": BIASES[config.model_type](config),
        "windows": tuple(window if kind == "sliding_attention" else None for kind in kinds),
        "rope": (rope["rope_theta"], rope["rope_type"], rope.get("factor")),
        "llama3": rope.get("original_max_position_embeddings"),
        "ends": frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends]),
    }
