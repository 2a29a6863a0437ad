"""A `config.json` as Tandem reads it, and as `transformers` does."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from transformers import AutoConfig, GenerationConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.deepseek_v2 import modeling_deepseek_v2 as deepseek_v2
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek_v3
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding
from transformers.models.phi3.modeling_phi3 import Phi3RotaryEmbedding

from tandem.engine import families
from tandem.engine.backends.pytorch.layers.frequencies import inverse_frequencies
from tandem.engine.families.llama import LlamaConfig
from tandem.engine.families.mlp import Routing
from tandem.engine.families.rope import Rope


def ours(folder: Path) -> dict[str, Any]:
    config = families.read_config(folder)
    assert isinstance(config, LlamaConfig)
    (growth,) = {rope.growth for rope in config.ropes if rope is not None} or {None}
    rotary = {rope: rope and _our_rotary(rope, config.context_length) for rope in config.ropes}
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
        "eps": config.norm_eps,
        "dtype": config.dtype,
        "biases": (config.qkv_bias, config.output_bias, config.mlp_bias),
        "windows": config.sliding_windows,
        "rotary": [rotary[rope] for rope in config.ropes],
        "growth": growth and (growth.beta, growth.original_context),
        "activation": config.activation,
        "scales": (
            config.embedding_scale,
            config.residual_scale,
            config.attention_scale and pytest.approx(config.attention_scale),
            pytest.approx(config.logit_scale),
        ),
        "caps": (config.attention_softcap, config.logit_softcap),
        "ends": config.eos_token_ids,
        "experts": config.routing and _experts(config, config.routing),
        "latent": config.latent and msgspec.structs.astuple(config.latent),
    }


def _our_rotary(rope: Rope, context: int) -> tuple[object, ...]:
    short, long = (inverse_frequencies(rope, length).tolist() for length in (1, context))
    return pytest.approx(short), pytest.approx(long), rope.attention_factor


def _experts(config: LlamaConfig, routing: Routing) -> tuple[object, ...]:
    counts = (config.num_experts, routing.top_k, config.expert_columns, config.shared_columns)
    groups = routing.groups and (routing.groups.count, routing.groups.chosen)
    own = (routing.renormalised, routing.scale, groups)
    return (*counts, *own, list(config.dense_layers))


SAME = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "tie_word_embeddings",
)
EPS = ("layer_norm_eps", "norm_eps", "norm_epsilon", "rms_norm_eps")
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
    **dict.fromkeys(("cohere", "cohere2"), lambda c: (c.attention_bias, c.attention_bias, False)),
    "ernie4_5": lambda c: (c.use_bias, c.use_bias, c.use_bias),
    "exaone4": lambda _: (False, False, False),
    **dict.fromkeys(
        ("gemma", "gemma2", "gemma3_text"), lambda c: (c.attention_bias, c.attention_bias, False)
    ),
    **dict.fromkeys(("glm", "glm4"), lambda c: (c.attention_bias, False, False)),
    **dict.fromkeys(("olmo2", "olmo3"), lambda c: (c.attention_bias, c.attention_bias, False)),
    "arcee": lambda c: (c.attention_bias, c.attention_bias, c.mlp_bias),
    "nemotron": lambda c: (c.attention_bias, c.attention_bias, c.mlp_bias),
    "stablelm": lambda c: (c.use_qkv_bias, False, False),
    "starcoder2": lambda c: (c.use_bias, c.use_bias, c.use_bias),
    "hunyuan_v1_dense": lambda c: (c.attention_bias, c.attention_bias, False),
    "internlm3": lambda c: (c.qkv_bias, c.attention_bias, c.mlp_bias),
    "seed_oss": lambda c: (c.attention_bias, c.attention_out_bias, c.mlp_bias),
    "mixtral": lambda _: (False, False, False),
    "gpt_oss": lambda c: (c.attention_bias, c.attention_bias, False),
    "olmoe": lambda c: (c.attention_bias, c.attention_bias, False),
    "qwen2_moe": lambda c: (c.qkv_bias, False, False),
    "qwen3_moe": lambda c: (c.attention_bias, c.attention_bias, False),
    "deepseek_v2": lambda c: (c.attention_bias, c.attention_bias, c.mlp_bias),
    "deepseek_v3": lambda c: (c.attention_bias, c.attention_bias, False),
    "glm4_moe": lambda c: (c.attention_bias, False, False),
}


def theirs(folder: Path) -> dict[str, Any]:
    config: Any = AutoConfig.from_pretrained(folder)
    if getattr(config, "head_dim", 0) is None:  # as its model reads it, but not its rope
        config.head_dim = config.hidden_size // config.num_attention_heads
    layers = config.num_hidden_layers
    kinds = getattr(config, "layer_types", None) or ["sliding_attention"] * layers
    window = getattr(config, "sliding_window", None)
    ends = GenerationConfig.from_model_config(config).eos_token_id
    head_dim = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    latent = hasattr(config, "kv_lora_rank")
    kv_heads = None if latent else config.num_key_value_heads
    return {name: getattr(config, name) for name in SAME} | {
        "head_dim": config.qk_head_dim if latent else head_dim,
        "dtype": str(config.dtype or "float32").removeprefix("torch."),
        "biases": BIASES[config.model_type](config),
        "windows": tuple(window if kind == "sliding_attention" else None for kind in kinds),
        "rotary": _rotary(config),
        "activation": getattr(config, "hidden_activation", None) or config.hidden_act,
        "num_key_value_heads": kv_heads or config.num_attention_heads,
        "eps": next(getattr(config, name) for name in EPS if hasattr(config, name)),
        "growth": _growth(config),
        "scales": _scales(config),
        "caps": (
            # Gemma 3 has the field and never heeds it.
            config.attn_logit_softcapping if config.model_type == "gemma2" else None,
            getattr(config, "final_logit_softcapping", None),
        ),
        "max_position_embeddings": _context(folder, config),
        "ends": frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends]),
        "experts": _their_experts(config),
        "latent": _their_latent(config),
    }


def _scales(config: Any) -> tuple[float | None, ...]:  # noqa: ANN401
    """Of embedding, residuals, scores and logits."""
    if hasattr(config, "kv_lora_rank"):
        code: Any = deepseek_v2 if config.model_type == "deepseek_v2" else deepseek_v3
        scale = code.yarn_apply_mscale(config.rope_parameters, config.qk_head_dim**-0.5)
        return 1.0, 1.0, scale, 1.0
    scaled = config.model_type.startswith("gemma")
    scalar = getattr(config, "query_pre_attn_scalar", config.head_dim) if scaled else None
    return (
        math.sqrt(config.hidden_size) if scaled else getattr(config, "embedding_multiplier", 1.0),
        getattr(config, "residual_multiplier", 1.0),
        scalar**-0.5 if scalar else getattr(config, "attention_multiplier", None),
        getattr(config, "logit_scale", 1 / getattr(config, "logits_scaling", 1.0)),
    )


def _rotates(config: Any) -> list[bool]:  # noqa: ANN401
    if config.model_type in ("cohere2", "exaone4") and config.sliding_window is not None:
        return [kind == "sliding_attention" for kind in config.layer_types]
    if config.model_type == "cohere2":
        return [False] * config.num_hidden_layers
    stated = getattr(config, "no_rope_layers", [1] * config.num_hidden_layers)
    return [bool(one) for one in stated[: config.num_hidden_layers]]


def _context(folder: Path, config: Any) -> int:  # noqa: ANN401
    """The library takes no notice of what yarn is for."""
    stated = json.loads((folder / "config.json").read_text())
    spellings = stated.get("rope_scaling"), stated.get("rope_parameters")
    # What a family has where its config says nothing.
    rope = next(filter(None, spellings), config.rope_parameters)
    context: int = config.max_position_embeddings
    original = (rope | stated).get("original_max_position_embeddings", context + 1)
    if rope.get("rope_type") != "yarn" or original > context:
        return context
    return max(context, int(rope["factor"] * original))


def _growth(config: Any) -> tuple[float, int] | None:  # noqa: ANN401
    rope = config.rope_parameters
    if "full_attention" in rope:
        return None
    beta = rope.get("llama_4_scaling_beta")
    return (beta, rope["original_max_position_embeddings"]) if beta else None


def _their_experts(config: Any) -> tuple[object, ...] | None:  # noqa: ANN401
    """Dense layers as the models' code has them."""
    if not hasattr(config, "num_experts_per_tok"):
        return None
    if hasattr(config, "n_routed_experts"):
        return _deepseek_experts(config)
    step, named = getattr(config, "decoder_sparse_step", 1), getattr(config, "mlp_only_layers", ())
    layers = range(config.num_hidden_layers)
    return (
        config.num_experts,
        config.num_experts_per_tok,
        getattr(config, "moe_intermediate_size", config.intermediate_size),
        getattr(config, "shared_expert_intermediate_size", 0),
        getattr(config, "norm_topk_prob", True),
        1.0,
        None,
        [number for number in layers if number in named or (number + 1) % step != 0],
    )


def _deepseek_experts(config: Any) -> tuple[object, ...]:  # noqa: ANN401
    grouped = getattr(config, "topk_method", "group") != "greedy"
    groups = (config.n_group, config.topk_group) if grouped else (1, 1)
    return (
        config.n_routed_experts,
        config.num_experts_per_tok,
        config.moe_intermediate_size,
        config.moe_intermediate_size * config.n_shared_experts,
        config.norm_topk_prob,
        config.routed_scaling_factor,
        groups if groups[0] != groups[1] else None,
        list(range(min(config.first_k_dense_replace, config.num_hidden_layers))),
    )


def _their_latent(config: Any) -> tuple[object, ...] | None:  # noqa: ANN401
    if not hasattr(config, "kv_lora_rank"):
        return None
    sizes = (config.kv_lora_rank, config.qk_rope_head_dim, config.qk_nope_head_dim)
    pairs = getattr(config, "rope_interleave", True)
    return (*sizes, config.v_head_dim, config.q_lora_rank, pairs)


def _rotary(config: Any) -> list[object]:  # noqa: ANN401
    """Each layer's, None for those that don't rotate."""
    apart = "full_attention" in config.rope_parameters
    kinds = config.layer_types if apart else [None] * config.num_hidden_layers
    found = {kind: _their_rotary(config, kind) for kind in set(kinds)}
    both = zip(kinds, _rotates(config), strict=True)
    return [found[kind] if rotates else None for kind, rotates in both]


def _their_rotary(config: Any, kind: str | None) -> tuple[object, ...]:  # noqa: ANN401
    """Frequencies of short and of long sequences, and what cos and sin are multiplied by."""
    rope = config.rope_parameters if kind is None else config.rope_parameters[kind]
    whole: Any = Phi3RotaryEmbedding if kind is None else Gemma3RotaryEmbedding
    compute: Any = ROPE_INIT_FUNCTIONS.get(rope["rope_type"], whole.compute_default_rope_parameters)
    own = {} if kind is None else {"layer_type": kind}
    # A length within the context: beyond it `dynamic` has frequencies that are never served.
    short, factor = compute(config, device="cpu", seq_len=1, **own)
    long, _ = compute(config, device="cpu", seq_len=config.max_position_embeddings, **own)
    return short.tolist(), long.tolist(), factor
