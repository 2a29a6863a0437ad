"""`config.json` as hypothesis draws it: any of a family's fields, stated, null or left out."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_HEADS = st.sampled_from([4, 8])
_ROPES = st.one_of(
    st.none(),
    st.just({}),
    st.just({"rope_theta": 5e5, "rope_type": "default"}),
    st.just({"type": "linear", "factor": 2.0}),
    st.just({"rope_type": "linear", "factor": 4, "rope_theta": 1e6}),
    st.just(
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    ),
    st.just(
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    ),
    st.just({"type": "dynamic", "factor": 3.0}),
    st.fixed_dictionaries(
        {"rope_type": st.just("yarn"), "factor": st.sampled_from([1.0, 4, 40.0])},
        optional={
            "original_max_position_embeddings": st.sampled_from([32, 64, 4096]),
            "attention_factor": st.sampled_from([0.7, 1.3]) | st.none(),
            "beta_fast": st.sampled_from([16, 32.0]) | st.none(),
            "beta_slow": st.sampled_from([1, 2.0]) | st.none(),
            "mscale": st.sampled_from([0.0, 0.707, 1.0]),
            "mscale_all_dim": st.sampled_from([0.0, 1.0, 1.2]),
            "truncate": st.booleans(),
        },
    ),
)
_ENDS = st.none() | st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=3)
_COMMON: dict[str, st.SearchStrategy[Any]] = {
    "architectures": st.none() | st.just([]),
    "vocab_size": st.integers(1, 500),
    "intermediate_size": st.integers(1, 500),
    "num_hidden_layers": st.integers(1, 5),
    "max_position_embeddings": st.integers(64, 500),
    "rms_norm_eps": st.sampled_from([1e-5, 1e-6]),
    "tie_word_embeddings": st.booleans(),
    "hidden_act": st.just("silu"),
    "rope_theta": st.sampled_from([1e4, 5e5, 1000000]),
    "original_max_position_embeddings": st.sampled_from([32, 4096]),
    "rope_scaling": _ROPES,
    "rope_parameters": _ROPES,
    "torch_dtype": st.sampled_from(["float32", "bfloat16", "float16"]) | st.none(),
    "dtype": st.sampled_from(["float32", "bfloat16"]) | st.none(),
    "eos_token_id": _ENDS,
    "head_dim": st.sampled_from([16, 32]),
}
_WINDOW: dict[str, st.SearchStrategy[Any]] = {"sliding_window": st.none() | st.integers(1, 99)}
_QWEN: dict[str, st.SearchStrategy[Any]] = {
    **_WINDOW,
    "use_sliding_window": st.booleans(),
    "max_window_layers": st.integers(0, 6),
}
_CHOSEN: dict[str, st.SearchStrategy[Any]] = {"num_experts_per_tok": st.just(1)}
_QWEN_MOE: dict[str, st.SearchStrategy[Any]] = {
    **_CHOSEN,
    "num_experts": st.integers(1, 9),
    "moe_intermediate_size": st.integers(1, 99),
    "norm_topk_prob": st.booleans(),
    "decoder_sparse_step": st.integers(1, 3),
    "mlp_only_layers": st.none() | st.lists(st.integers(0, 4), max_size=2),
}
_BIAS: dict[str, st.SearchStrategy[Any]] = {"attention_bias": st.booleans()}
_PATTERN: dict[str, st.SearchStrategy[Any]] = {
    "sliding_window": st.integers(1, 99),
    "sliding_window_pattern": st.integers(1, 4),
}
_CAP = st.sampled_from([0.5, 30.0]) | st.none()
_GEMMA: dict[str, st.SearchStrategy[Any]] = {
    **_BIAS,
    "hidden_activation": st.sampled_from(["gelu_pytorch_tanh", "gelu", "silu"]),
    "query_pre_attn_scalar": st.integers(1, 256),
    "final_logit_softcapping": _CAP,
    "attn_logit_softcapping": _CAP,
    "sliding_window": st.integers(1, 99),
}
_PARTIAL = {**_BIAS, "partial_rotary_factor": st.sampled_from([0.25, 0.5, 1.0])}
_COHERE: dict[str, st.SearchStrategy[Any]] = {
    **_BIAS,
    "layer_norm_eps": st.sampled_from([1e-5, 1e-3]),
    "logit_scale": st.sampled_from([0.0625, 0.25, 1.0]),
}
_LINEAR = st.just({"rope_type": "linear", "factor": 8.0})
#: One rope for layers that see everything, another one for those with a window.
_BY_KIND: dict[str, st.SearchStrategy[Any]] = {
    "rope_scaling": st.none() | st.just({}) | _LINEAR,
    "rope_parameters": st.none()
    | st.fixed_dictionaries(
        {
            "full_attention": st.just({"rope_type": "default", "rope_theta": 2e5}) | _LINEAR,
            "sliding_attention": st.just({"rope_type": "default", "rope_theta": 3e3})
            | st.just({"rope_type": "default"}),
        }
    ),
}
_SCALES = (
    *("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"),
)
_DEEPSEEK_MOE: dict[str, st.SearchStrategy[Any]] = {
    **_BIAS,
    "num_experts_per_tok": st.integers(1, 3),
    "n_routed_experts": st.sampled_from([16, 24]),
    "n_shared_experts": st.integers(1, 3),
    "moe_intermediate_size": st.integers(1, 99),
    "first_k_dense_replace": st.integers(0, 1),
    "routed_scaling_factor": st.sampled_from([1.0, 2.5]),
    "n_group": st.sampled_from([4, 8]),
    "topk_group": st.sampled_from([3, 4]),
}
_LATENT: dict[str, st.SearchStrategy[Any]] = {
    "kv_lora_rank": st.integers(1, 99),
    "q_lora_rank": st.none() | st.integers(1, 99),
    "qk_nope_head_dim": st.integers(1, 99),
    "qk_rope_head_dim": st.sampled_from([4, 16]),
    "v_head_dim": st.integers(1, 99),
    # What their code has of it is the rotated part's.
    "head_dim": st.nothing(),
}
_OWN: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "llama": {"attention_bias": st.booleans(), "mlp_bias": st.booleans()},
    "mistral": _WINDOW,
    "phi3": {**_WINDOW, "partial_rotary_factor": st.sampled_from([0.5, 0.75, 1.0])},
    "smollm3": {
        "attention_bias": st.booleans(),
        "mlp_bias": st.booleans(),
        "use_sliding_window": st.booleans(),
        **_WINDOW,
        "no_rope_layer_interval": st.integers(1, 5),
        "no_rope_layers": st.none() | st.lists(st.integers(0, 1), min_size=36, max_size=40),
    },
    "granite": {
        "attention_bias": st.booleans(),
        "mlp_bias": st.booleans(),
        **dict.fromkeys(_SCALES, st.sampled_from([0.25, 1, 12.0])),
    },
    "cohere": {**_COHERE, "use_qk_norm": st.booleans()},
    "cohere2": {**_COHERE, **_PATTERN},
    "ernie4_5": {"use_bias": st.booleans()},
    "exaone4": _PATTERN,
    "gemma": {
        **_BIAS,
        "hidden_act": st.sampled_from(["gelu", "gelu_pytorch_tanh"]),
        "hidden_activation": st.none(),
    },
    "gemma2": _GEMMA,
    "gemma3_text": {
        **_GEMMA,
        **_PATTERN,
        **_BY_KIND,
        "rope_local_base_freq": st.sampled_from([1e4, 5e3]),
    },
    "glm": _PARTIAL,
    "glm4": _PARTIAL,
    "olmo2": _BIAS,
    # Another `rope_theta` beside `rope_scaling` is lost on the layers with a window there.
    "olmo3": {
        **_BIAS,
        **_BY_KIND,
        "sliding_window": st.integers(1, 99),
        "rope_theta": st.just(5e5),
    },
    "arcee": {**_BIAS, "mlp_bias": st.booleans(), "hidden_act": st.just("relu2")},
    "hunyuan_v1_dense": _BIAS,
    "internlm3": {},
    "nemotron": {
        **_PARTIAL,
        "mlp_bias": st.booleans(),
        "hidden_act": st.sampled_from(["relu2", "gelu"]),
        "norm_eps": st.sampled_from([1e-5, 1e-3]),
    },
    "stablelm": {
        **_PARTIAL,
        "use_qkv_bias": st.booleans(),
        "layer_norm_eps": st.sampled_from([1e-5, 1e-3]),
        "head_dim": st.none(),
    },
    "starcoder2": {
        **_WINDOW,
        "use_bias": st.booleans(),
        "norm_epsilon": st.sampled_from([1e-5, 1e-3]),
    },
    "seed_oss": {
        **_BIAS,
        "attention_out_bias": st.booleans(),
        "mlp_bias": st.booleans(),
    },
    "ministral": _WINDOW,
    "ministral3": _WINDOW,
    "qwen2": _QWEN,
    "qwen3": {**_QWEN, "attention_bias": st.booleans()},
    "mixtral": {**_WINDOW, "num_local_experts": st.integers(1, 9), **_CHOSEN},
    "gpt_oss": {
        "sliding_window": st.integers(1, 99),
        "num_local_experts": st.integers(1, 9),
        "attention_bias": st.booleans(),
        **_CHOSEN,
    },
    "olmoe": {
        "num_experts": st.integers(1, 9),
        "norm_topk_prob": st.booleans(),
        "attention_bias": st.booleans(),
        **_CHOSEN,
    },
    "qwen2_moe": {
        **_QWEN,
        **_QWEN_MOE,
        "qkv_bias": st.booleans(),
        "shared_expert_intermediate_size": st.integers(1, 99),
    },
    "deepseek_v2": {
        **_DEEPSEEK_MOE,
        **_LATENT,
        "mlp_bias": st.booleans(),
        "topk_method": st.sampled_from(["greedy", "group_limited_greedy"]),
    },
    "deepseek_v3": {
        **_DEEPSEEK_MOE,
        **_LATENT,
        "norm_topk_prob": st.booleans(),
        "rope_interleave": st.booleans(),
    },
    "glm4_moe": {
        **_DEEPSEEK_MOE,
        "norm_topk_prob": st.booleans(),
        "use_qk_norm": st.booleans(),
        "partial_rotary_factor": st.sampled_from([0.25, 0.5, 1.0]),
    },
    "qwen3_moe": {
        **_WINDOW,
        **_QWEN_MOE,
        "use_sliding_window": st.booleans(),
        "attention_bias": st.booleans(),
    },
}


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """A config that `transformers` takes, and that these families can compute."""
    family = draw(st.sampled_from(sorted(_OWN)))
    config: dict[str, Any] = {"model_type": family}
    config |= draw(st.fixed_dictionaries({}, optional=_COMMON | _OWN[family]))
    if draw(st.booleans()):
        heads = draw(_HEADS)
        config |= {"num_attention_heads": heads, "hidden_size": heads * 16}
        config["num_key_value_heads"] = draw(st.sampled_from([1, 2, heads]))
        if family in ("llama", "qwen2"):
            config["num_key_value_heads"] = draw(st.sampled_from([None, 2, heads]))
    layers = config.get("num_hidden_layers", 24 if family.endswith("_moe") else 32)
    if "num_experts_per_tok" not in config:  # what is left out must not be more than there are
        config = {name: config[name] for name in config if not name.endswith("_experts")}
    if family == "deepseek_v2":  # whose defaults are none
        config = {"num_experts_per_tok": 2, "n_group": 4, "topk_group": 3} | config
    elif not {"n_group", "topk_group"} <= config.keys():
        config = {name: config[name] for name in config if not name.endswith("_group")}
    if family == "glm4_moe":  # whose default would rotate an odd part of a head
        config.setdefault("head_dim", 128)
    # Where Qwen2-MoE uses no windows `transformers` would give these layers one of 0 tokens.
    windowed = family == "qwen2_moe" and config.get("use_sliding_window", False)
    if (windowed or family in ("qwen2", "qwen3")) and draw(st.booleans()):
        kinds = st.sampled_from(["sliding_attention", "full_attention"])
        config["layer_types"] = draw(st.lists(kinds, min_size=layers, max_size=layers))
    if family == "phi3":
        config = {name: config[name] for name in config if name not in _ROTARY} | draw(
            _longrope(config)
        )
    return config


_ROTARY = ("rope_scaling", "rope_parameters", "head_dim")


def _longrope(config: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The one rule that Phi-3 has, or none."""
    head_dim = 16 if "hidden_size" in config else 96
    count = int(head_dim * config.get("partial_rotary_factor", 1.0)) // 2
    factors = st.lists(st.sampled_from([1.0, 1.5, 7]), min_size=count, max_size=count)
    rule = st.fixed_dictionaries(
        {
            "type": st.just("longrope"),
            "short_factor": factors,
            "long_factor": factors,
            "original_max_position_embeddings": st.sampled_from([32, 4096]),
        },
        optional={"attention_factor": st.sampled_from([1.25, 2.0]), "factor": st.just(4.0)},
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "rope_scaling": rule | st.none(),
            "original_max_position_embeddings": st.sampled_from([32, 64, 4096]),
        },
    )
