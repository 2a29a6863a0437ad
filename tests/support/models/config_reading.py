"""A `config.json` as Tandem reads it, and as `transformers` does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig, GenerationConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from tandem.engine import families
from tandem.engine.backends.pytorch.layers.frequencies import inverse_frequencies
from tandem.engine.families.llama import LlamaConfig
from tandem.engine.families.mlp import Routing
from tandem.engine.families.rope import Rope


def ours(folder: Path) -> dict[str, Any]:
    config = families.read_config(folder)
    assert isinstance(config, LlamaConfig)
    (rope,) = {rope for rope in config.ropes if rope is not None} or {Rope(1.0, 2)}
    rotates = [rope is not None for rope in config.ropes]
    short, long = (
        inverse_frequencies(rope, context).tolist() for context in (1, config.context_length)
    )
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
        "rms_norm_eps": config.norm_eps,
        "dtype": config.dtype,
        "biases": (config.qkv_bias, config.output_bias, config.mlp_bias),
        "windows": config.sliding_windows,
        "rotary": (pytest.approx(short), pytest.approx(long), rope.attention_factor)
        if any(rotates)
        else None,
        "rotates": rotates,
        "growth": rope.growth and (rope.growth.beta, rope.growth.original_context),
        "scales": (
            config.embedding_scale,
            config.residual_scale,
            config.attention_scale,
            pytest.approx(1 / config.logit_scale),
        ),
        "ends": config.eos_token_ids,
        "experts": config.routing and _experts(config, config.routing),
    }


def _experts(config: LlamaConfig, routing: Routing) -> tuple[object, ...]:
    counts = (config.num_experts, routing.top_k, config.expert_columns, config.shared_columns)
    return (*counts, routing.renormalised, list(config.dense_layers))


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
    "phi3": lambda _: (False, False, False),
    "smollm3": lambda c: (c.attention_bias, c.attention_bias, c.mlp_bias),
    "granite": lambda c: (c.attention_bias, c.attention_bias, c.mlp_bias),
    "ministral": lambda _: (False, False, False),
    "ministral3": lambda _: (False, False, False),
    "mixtral": lambda _: (False, False, False),
    "gpt_oss": lambda c: (c.attention_bias, c.attention_bias, False),
    "qwen2_moe": lambda c: (c.qkv_bias, False, False),
    "qwen3_moe": lambda c: (c.attention_bias, c.attention_bias, False),
}


def theirs(folder: Path) -> dict[str, Any]:
    config: Any = AutoConfig.from_pretrained(folder)
    if getattr(config, "head_dim", 0) is None:  # as its model reads it, but not its rope
        config.head_dim = config.hidden_size // config.num_attention_heads
    layers = config.num_hidden_layers
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
    window = getattr(config, "sliding_window", None)
    ends = GenerationConfig.from_model_config(config).eos_token_id
    return {name: getattr(config, name) for name in SAME} | {
        "head_dim": getattr(config, "head_dim", config.hidden_size // config.num_attention_heads),
        "dtype": str(config.dtype or "float32").removeprefix("torch."),
        "biases": BIASES[config.model_type](config),
        "windows": tuple(window if kind == "sliding_attention" else None for kind in kinds),
        "rotary": _rotary(config) if any(_rotates(config)) else None,
        "rotates": _rotates(config),
        "growth": _growth(config),
        "scales": (
            getattr(config, "embedding_multiplier", 1.0),
            getattr(config, "residual_multiplier", 1.0),
            getattr(config, "attention_multiplier", None),
            getattr(config, "logits_scaling", 1.0),
        ),
        "ends": frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends]),
        "experts": _their_experts(config),
    }


def _rotates(config: Any) -> list[bool]:  # noqa: ANN401
    stated = getattr(config, "no_rope_layers", [1] * config.num_hidden_layers)
    return [bool(one) for one in stated[: config.num_hidden_layers]]


def _growth(config: Any) -> tuple[float, int] | None:  # noqa: ANN401
    rope = config.rope_parameters
    beta = rope.get("llama_4_scaling_beta")
    return (beta, rope["original_max_position_embeddings"]) if beta else None


def _their_experts(config: Any) -> tuple[object, ...] | None:  # noqa: ANN401
    """Dense layers as the models' code has them."""
    if not hasattr(config, "num_experts_per_tok"):
        return None
    step, named = getattr(config, "decoder_sparse_step", 1), getattr(config, "mlp_only_layers", ())
    layers = range(config.num_hidden_layers)
    return (
        config.num_experts,
        config.num_experts_per_tok,
        getattr(config, "moe_intermediate_size", config.intermediate_size),
        getattr(config, "shared_expert_intermediate_size", 0),
        getattr(config, "norm_topk_prob", True),
        [number for number in layers if number in named or (number + 1) % step != 0],
    )


def _rotary(config: Any) -> tuple[list[float], list[float], float]:  # noqa: ANN401
    """Frequencies of short and of long sequences, and what cos and sin are multiplied by."""
    rule = config.rope_parameters["rope_type"]
    compute: Any = ROPE_INIT_FUNCTIONS.get(
        rule, Phi3RotaryEmbedding.compute_default_rope_parameters
    )
    # A length within the context: beyond it `dynamic` has frequencies that are never served.
    short, factor = compute(config, device="cpu", seq_len=1)
    long, _ = compute(config, device="cpu", seq_len=config.max_position_embeddings)
    return short.tolist(), long.tolist(), factor
