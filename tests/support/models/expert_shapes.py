"""Those of `tests.support.models.shapes` that have experts."""

from __future__ import annotations

from tests.support.models.shape import YARN, Shape

from tandem.engine.families import Size

#: As DeepSeek has it: attention's scale grows with the context too.
DEEPSEEK_YARN = {
    "type": "yarn",
    "factor": 40.0,
    "original_max_position_embeddings": 16,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 0.707,
    "mscale_all_dim": 0.9,
}

EXPERT_SHAPES = {
    "mixtral": Shape("mixtral", Size(3, 48, 80, 4, 2, 12, 301, 256, 5, 2, 36)),
    "mixtral-window": Shape(
        "mixtral", Size(2, 48, 80, 4, 2, 12, 301, 256, 7, 3, 52), {"sliding_window": 6}
    ),
    "olmoe": Shape("olmoe", Size(3, 48, 72, 4, 2, 12, 307, 256, 7, 3, 20)),
    "olmoe-biases": Shape(
        "olmoe",
        Size(2, 48, 72, 4, 4, 12, 307, 256, 5, 2, 28),
        {"attention_bias": True, "norm_topk_prob": True},
    ),
    "qwen2-moe": Shape("qwen2_moe", Size(3, 48, 75, 4, 2, 12, 301, 256, 7, 3, 28)),
    "qwen2-moe-sparse": Shape(
        "qwen2_moe",
        Size(5, 48, 60, 3, 3, 16, 303, 256, 5, 2, 28),
        {
            "decoder_sparse_step": 2,
            "mlp_only_layers": [3],
            "norm_topk_prob": True,
            "qkv_bias": False,
            "use_sliding_window": True,
            "sliding_window": 5,
            "max_window_layers": 3,
        },
    ),
    "qwen3-moe": Shape("qwen3_moe", Size(3, 48, 72, 6, 2, 24, 307, 256, 9, 4, 20)),
    "qwen3-moe-sparse": Shape(
        "qwen3_moe",
        Size(4, 48, 72, 4, 4, 12, 301, 256, 6, 1, 28),
        {
            "decoder_sparse_step": 2,
            "norm_topk_prob": True,
            "use_sliding_window": True,
            "sliding_window": 5,
        },
    ),
    "gpt-oss": Shape(
        "gpt_oss",
        Size(4, 48, 80, 4, 2, 12, 301, 256, 5, 2, 36),
        {"sliding_window": 5, "rope_scaling": YARN},
    ),
    "gpt-oss-defaults": Shape(
        "gpt_oss",
        Size(3, 48, 80, 6, 3, 16, 301, 256, 7, 3, 20),
        {"swiglu_limit": 0.03, "swiglu_alpha": 1.1, "attention_bias": False},
    ),
    "deepseek-v2": Shape(
        "deepseek_v2",
        Size(3, 48, 80, 4, 4, 12, 301, 256, 8, 3, 20),
        {
            "topk_method": "group_limited_greedy",
            "n_group": 4,
            "topk_group": 2,
            "routed_scaling_factor": 16.0,
            "attention_bias": True,
            "rope_scaling": DEEPSEEK_YARN,
        },
    ),
    "deepseek-v2-lite": Shape(
        "deepseek_v2",
        Size(2, 48, 80, 6, 6, 8, 301, 256, 5, 2, 28),
        {
            "q_lora_rank": None,
            "topk_method": "greedy",
            "kv_lora_rank": 20,
            "v_head_dim": 10,
            "mlp_bias": True,
            "scoring_func": "softmax",
        },
    ),
    "deepseek-v3": Shape(
        "deepseek_v3",
        Size(3, 48, 80, 4, 4, 12, 301, 256, 8, 3, 20),
        {
            "topk_method": "noaux_tc",
            "scoring_func": "sigmoid",
            "n_group": 4,
            "topk_group": 2,
            "rope_scaling": DEEPSEEK_YARN,
        },
    ),
    "deepseek-v3-halves": Shape(
        "deepseek_v3",
        Size(3, 60, 80, 3, 3, 16, 301, 256, 6, 3, 20),
        {
            "q_lora_rank": None,
            "rope_interleave": False,
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": False,
            "first_k_dense_replace": 0,
            "n_shared_experts": 1,
            "attention_bias": True,
            "rope_scaling": {"type": "linear", "factor": 3.0, "mscale_all_dim": 0.7},
        },
    ),
    "glm4-moe": Shape(
        "glm4_moe", Size(3, 48, 72, 6, 2, 24, 307, 256, 9, 4, 20), {"use_qk_norm": True}
    ),
    "glm4-moe-groups": Shape(
        "glm4_moe",
        Size(2, 48, 72, 4, 4, 12, 307, 256, 9, 4, 20),
        {"attention_bias": True, "n_group": 3, "topk_group": 2, "first_k_dense_replace": 0},
    ),
}
