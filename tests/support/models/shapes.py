"""Small models of every family, of odd shapes, whose logits are compared with `transformers`."""

from __future__ import annotations

from tests.support.models.expert_shapes import EXPERT_SHAPES
from tests.support.models.shape import YARN, Shape

from tandem.engine.families import Size

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
#: What 16 numbers of a head are rotated by.
LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6],
    "long_factor": [1.0, 1.2, 1.9, 2.5, 4.0, 8.0, 16.0, 40.0],
}
#: What is made beside a text model, and not read.
VISION = {
    "model_type": "pixtral",
    "num_hidden_layers": 1,
    "hidden_size": 16,
    "num_attention_heads": 1,
    "head_dim": 16,
    "intermediate_size": 16,
}

SHAPES = {
    "llama-gqa": Shape("llama", Size(3, 48, 100, 4, 2, 12, 301, 256)),
    "llama3-rope-untied": Shape(
        "llama",
        Size(2, 64, 96, 4, 4, 16, 303, 256),
        {"rope_scaling": LLAMA3_ROPE, "tie_word_embeddings": False},
    ),
    "llama-linear-rope": Shape(
        "llama",
        Size(2, 64, 96, 4, 1, 16, 300, 256),
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    ),
    "llama-dynamic-rope": Shape(
        "llama",
        Size(2, 64, 96, 4, 2, 16, 300, 40),
        {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
    ),
    "llama-biases": Shape(
        "llama",
        Size(2, 60, 90, 3, 1, 20, 299, 256),
        {"attention_bias": True, "mlp_bias": True},
    ),
    "llama-gelu": Shape("llama", Size(2, 64, 96, 4, 1, 16, 300, 256), {"hidden_act": "gelu"}),
    "arcee": Shape("arcee", Size(2, 48, 80, 8, 4, 12, 389, 256), {"mlp_bias": True}),
    "cohere": Shape("cohere", Size(3, 48, 80, 8, 4, 6, 389, 256), {"logit_scale": 4.0}),
    "cohere-head-norms": Shape(
        "cohere",
        Size(2, 60, 90, 6, 3, 10, 307, 256),
        {"use_qk_norm": True, "attention_bias": True, "tie_word_embeddings": False},
    ),
    "cohere2": Shape(
        "cohere2",
        Size(5, 64, 80, 4, 2, 16, 389, 256),
        {"sliding_window": 6, "logit_scale": 2.0, "rope_theta": 5e4},
    ),
    "cohere2-kinds": Shape(
        "cohere2",
        Size(2, 60, 80, 5, 1, 12, 389, 256),
        {"sliding_window": 6, "layer_types": ["full_attention", "sliding_attention"]},
    ),
    "ministral-kinds": Shape(
        "ministral",
        Size(2, 36, 50, 6, 2, 12, 305, 256),
        {"sliding_window": 5, "layer_types": ["full_attention", "sliding_attention"]},
    ),
    "ministral3": Shape(
        "ministral3",
        Size(2, 36, 50, 6, 2, 12, 305, 256),
        {
            "sliding_window": None,
            "rope_parameters": YARN
            | {"rope_theta": 1e6, "original_max_position_embeddings": 8}
            | {"mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1},
        },
    ),
    "mistral3-text": Shape(
        "mistral3",
        Size(2, 36, 50, 6, 2, 12, 305, 256),
        {"sliding_window": None, "vision_config": VISION},
    ),
    "ernie-bias": Shape("ernie4_5", Size(2, 48, 80, 8, 4, 12, 389, 256), {"use_bias": True}),
    "ernie-untied": Shape(
        "ernie4_5", Size(3, 60, 90, 3, 3, 20, 307, 256), {"tie_word_embeddings": False}
    ),
    "exaone-windows": Shape("exaone4", Size(5, 48, 80, 4, 2, 12, 389, 256), {"sliding_window": 6}),
    "exaone-full": Shape(
        "exaone4",
        Size(2, 60, 90, 5, 1, 12, 307, 256),
        {"sliding_window": None, "layer_types": ["full_attention"] * 2},
    ),
    "gemma": Shape("gemma", Size(3, 48, 80, 8, 4, 20, 389, 256)),
    "gemma-legacy": Shape("gemma", Size(2, 56, 90, 4, 1, 12, 307, 256), {"hidden_act": "gelu"}),
    "qwen2.5-vl-text": Shape(
        "qwen2_5_vl",
        Size(3, 48, 72, 4, 2, 12, 307, 256),
        {
            "rope_scaling": {"type": "mrope", "mrope_section": [2, 2, 2]},
            "vision_config": {"depth": 1, "hidden_size": 16, "num_heads": 1, "out_hidden_size": 48},
        },
    ),
    "qwen3-vl-text": Shape(
        "qwen3_vl",
        Size(3, 48, 72, 4, 2, 20, 307, 256),
        {
            "rope_scaling": {
                "rope_type": "default",
                "mrope_interleaved": True,
                "mrope_section": [4, 3, 3],
            },
            "vision_config": {
                "depth": 1,
                "hidden_size": 16,
                "num_heads": 1,
                "out_hidden_size": 48,
                "deepstack_visual_indexes": [0],
            },
        },
    ),
    "gemma2": Shape(
        "gemma2",
        Size(3, 48, 80, 8, 4, 20, 389, 256),
        {
            "sliding_window": 9,
            "query_pre_attn_scalar": 5,
            "attn_logit_softcapping": 0.02,
            "final_logit_softcapping": 0.3,
        },
    ),
    "gemma2-uncapped": Shape(
        "gemma2",
        Size(2, 56, 90, 4, 1, 12, 307, 256),
        {"attn_logit_softcapping": None, "final_logit_softcapping": None, "attention_bias": True},
    ),
    "gemma3-two-bases": Shape(
        "gemma3_text",
        Size(7, 48, 72, 4, 2, 20, 307, 256),
        {
            "sliding_window": 6,
            "rope_theta": 1e6,
            "rope_local_base_freq": 1e4,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "sliding_window_pattern": 3,
            "query_pre_attn_scalar": 7,
        },
    ),
    "gemma3-bases-by-kind": Shape(
        "gemma3_text",
        Size(2, 64, 72, 4, 1, 16, 307, 256),
        {
            "sliding_window": 7,
            "layer_types": ["full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 5e3},
            },
            "final_logit_softcapping": 0.3,
        },
    ),
    "gemma3-within": Shape(
        "gemma3",
        Size(3, 48, 72, 4, 2, 20, 307, 256),
        {
            "sliding_window": 6,
            "sliding_window_pattern": 2,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "vision_config": {
                "model_type": "siglip_vision_model",
                "num_hidden_layers": 1,
                "hidden_size": 16,
                "num_attention_heads": 1,
                "intermediate_size": 16,
                "image_size": 896,
                "patch_size": 56,
            },
        },
    ),
    "glm-bias": Shape("glm", Size(3, 48, 80, 8, 4, 12, 389, 256), {"attention_bias": True}),
    "glm-whole-heads": Shape(
        "glm",
        Size(2, 60, 90, 3, 3, 20, 307, 256),
        {"attention_bias": False, "partial_rotary_factor": 1.0, "tie_word_embeddings": True},
    ),
    "glm4": Shape("glm4", Size(3, 48, 80, 8, 2, 12, 389, 256), {"attention_bias": True}),
    "glm4-quarter": Shape(
        "glm4",
        Size(2, 48, 90, 4, 1, 16, 307, 256),
        {"rope_parameters": {"rope_theta": 2e4, "partial_rotary_factor": 0.25}},
    ),
    "nemotron": Shape("nemotron", Size(3, 48, 80, 8, 4, 12, 389, 256)),
    "nemotron-biases": Shape(
        "nemotron",
        Size(2, 60, 90, 3, 3, 20, 307, 256),
        {"attention_bias": True, "mlp_bias": True, "partial_rotary_factor": 0.3},
    ),
    "internlm3": Shape("internlm3", Size(3, 48, 80, 8, 4, 12, 389, 256)),
    "internlm3-bias": Shape(
        "internlm3", Size(2, 60, 90, 3, 3, 20, 307, 256), {"qkv_bias": True, "bias": True}
    ),
    "olmo2": Shape("olmo2", Size(3, 48, 80, 8, 4, 12, 389, 256), {"rope_theta": 5e5}),
    "olmo2-all-heads": Shape(
        "olmo2", Size(2, 60, 90, 3, 3, 20, 307, 256), {"attention_bias": True}
    ),
    "olmo3": Shape(
        "olmo3",
        Size(5, 48, 80, 8, 4, 12, 389, 64),
        {"sliding_window": 6, "rope_theta": 5e5, "rope_scaling": YARN},
    ),
    "olmo3-kinds": Shape(
        "olmo3",
        Size(2, 48, 80, 8, 2, 6, 389, 64),
        {
            "sliding_window": 6,
            "layer_types": ["full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": YARN | {"rope_theta": 2e4},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
    ),
    "seed-oss": Shape("seed_oss", Size(2, 48, 80, 8, 4, 12, 389, 256), {"attention_bias": True}),
    "seed-oss-all-biases": Shape(
        "seed_oss",
        Size(3, 60, 90, 3, 3, 20, 307, 256),
        {"attention_bias": False, "attention_out_bias": True, "mlp_bias": True},
    ),
    "stablelm": Shape("stablelm", Size(3, 64, 80, 4, 2, 16, 389, 256), {"use_qkv_bias": True}),
    "stablelm-all-heads": Shape(
        "stablelm", Size(2, 60, 90, 3, 3, 20, 307, 256), {"partial_rotary_factor": 0.5}
    ),
    "starcoder2-window": Shape(
        "starcoder2", Size(3, 48, 80, 8, 2, 6, 389, 256), {"sliding_window": 7}
    ),
    "starcoder2-unbiased": Shape(
        "starcoder2",
        Size(2, 60, 90, 3, 3, 20, 307, 256),
        {"sliding_window": None, "use_bias": False, "hidden_act": "gelu"},
    ),
    "qwen2-three-heads": Shape("qwen2", Size(2, 120, 77, 3, 3, 40, 333, 256)),
    "qwen2-window": Shape(
        "qwen2",
        Size(4, 64, 96, 4, 2, 16, 301, 256),
        {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2},
    ),
    "qwen2-yarn": Shape("qwen2", Size(2, 64, 96, 4, 2, 16, 301, 64), {"rope_scaling": YARN}),
    "qwen3-head-dim": Shape(
        "qwen3",
        Size(3, 48, 72, 6, 2, 40, 307, 256),
        {"tie_word_embeddings": False, "rope_theta": 1e6},
    ),
    "qwen3-yarn": Shape(
        "qwen3",
        Size(2, 48, 72, 4, 2, 24, 307, 64),
        {
            "rope_parameters": YARN
            | {"rope_theta": 1e6, "mscale": 0.7, "mscale_all_dim": 1.2, "truncate": False}
        },
    ),
    "mistral-window": Shape("mistral", Size(3, 64, 80, 8, 2, 8, 311, 256), {"sliding_window": 7}),
    "mistral-one-kv-head": Shape(
        "mistral", Size(2, 36, 50, 3, 1, 12, 305, 256), {"sliding_window": None}
    ),
    "smollm3": Shape("smollm3", Size(5, 48, 90, 4, 2, 12, 303, 256)),
    "smollm3-window": Shape(
        "smollm3",
        Size(3, 48, 90, 4, 1, 12, 303, 256),
        {"no_rope_layers": [0, 1, 0], "use_sliding_window": True, "sliding_window": 6},
    ),
    "hunyuan": Shape("hunyuan_v1_dense", Size(3, 48, 72, 6, 2, 20, 307, 256)),
    "hunyuan-stretched": Shape(
        "hunyuan_v1_dense",
        Size(2, 48, 72, 4, 1, 20, 307, 256),
        {"rope_scaling": {"type": "dynamic", "alpha": 50.0, "factor": 1.0}, "attention_bias": True},
    ),
    "granite": Shape(
        "granite", Size(3, 60, 90, 6, 2, 10, 303, 256), {"attention_bias": True, "mlp_bias": True}
    ),
    "granite4-dense": Shape("granitemoehybrid", Size(2, 64, 70, 4, 2, 16, 303, 256)),
    "granite4-unrotated": Shape(
        "granitemoehybrid", Size(2, 64, 70, 4, 1, 16, 303, 256), {"position_embedding_type": None}
    ),
    "phi3-window": Shape("phi3", Size(2, 48, 90, 4, 2, 12, 303, 256), {"sliding_window": 7}),
    "phi3-all-heads": Shape("phi3", Size(3, 48, 70, 6, 6, 8, 303, 256), {"sliding_window": None}),
    "phi3-long-context": Shape(
        "phi3",
        Size(2, 80, 90, 4, 2, 20, 303, 256),
        {
            "sliding_window": None,
            "partial_rotary_factor": 0.8,
            "original_max_position_embeddings": 8,
            "rope_scaling": LONGROPE,
        },
    ),
    "phi3-short-context": Shape(
        "phi3",
        Size(2, 80, 90, 4, 2, 20, 303, 4096),
        {
            "tie_word_embeddings": True,
            # The tests have room for no longer sequences.
            "original_max_position_embeddings": 256,
            "rope_parameters": LONGROPE
            | {
                "type": "su",
                "partial_rotary_factor": 0.8,
                "original_max_position_embeddings": 256,
            },
        },
    ),
    **EXPERT_SHAPES,
}
