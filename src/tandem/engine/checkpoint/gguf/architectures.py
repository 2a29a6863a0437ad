"""The architectures that a GGUF may be of: which class of Hugging Face's, its tensors and fields.

A row says how the file's names of a layer's tensors are Hugging Face's, and what its writer did to
the numbers of some: rows of queries and keys that were put in another order, norms that had one
added.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tandem.engine.checkpoint.gguf.model import GgufModel
from tandem.errors import CheckpointError

Fields = dict[str, Any]

#: Of a layer, without `.weight` and `.bias`.
_DENSE = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_EXPERTS = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.*.gate_proj",
    "ffn_up_exps": "mlp.experts.*.up_proj",
    "ffn_down_exps": "mlp.experts.*.down_proj",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
}
_MIXTRAL = {
    "ffn_gate_inp": "block_sparse_moe.gate",
    "ffn_gate_exps": "block_sparse_moe.experts.*.w1",
    "ffn_up_exps": "block_sparse_moe.experts.*.w3",
    "ffn_down_exps": "block_sparse_moe.experts.*.w2",
}
_FUSED_MLP = {"ffn_up": "mlp.gate_up_proj"}
_NORMS_BEHIND = {
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_GEMMA = _DENSE | _NORMS_BEHIND | {"ffn_norm": "pre_feedforward_layernorm"}


def _nothing(_: GgufModel, __: str) -> Fields:
    return {}


class Architecture(NamedTuple):
    """`layer` has an asterisk where a tensor of all experts is one of each.

    `rotated` says that rows of queries and keys lie by pairs that are rotated together, where
    Hugging Face has first one half of a head, then the other. `norm_offset` was added to norms.
    `whole_names` are those of tensors whose ends differ too; rows of some alternate with those of
    the tensor `between` them there. `epsilon` is what `config.json` calls that of norms.
    `fields` are those of `config.json` beyond what all have.
    """

    class_name: str
    model_type: str
    layer: Mapping[str, str] = _DENSE
    rotated: bool = False
    norm_offset: float = 0.0
    whole_names: Mapping[str, str] = MappingProxyType({})
    between: Mapping[str, str] = MappingProxyType({})
    epsilon: str = "rms_norm_eps"
    fields: Callable[[GgufModel, str], Fields] = _nothing


def find_architecture(model: GgufModel) -> Architecture:
    """Raises CheckpointError for one that is not known."""
    name = model.needed("general.architecture", str)
    if name not in ARCHITECTURES:
        raise CheckpointError(
            f"{model.path}: general.architecture {name!r} is not supported; "
            f"expected one of {', '.join(sorted(ARCHITECTURES))}"
        )
    experts: int | None = model.stated(f"{name}.expert_count", int)
    if name == "llama" and experts:
        return _MIXTRAL_OF_LLAMA
    if name == "olmo2" and _window(model, name):
        return _OLMO3
    return ARCHITECTURES[name]


def _biases(model: GgufModel, _: str) -> Fields:
    """Of families whose config says whether there are any."""
    return {
        "attention_bias": "blk.0.attn_q.bias" in model.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in model.tensors,
    }


def _used_biases(model: GgufModel, _: str) -> Fields:
    return {"use_bias": "blk.0.attn_q.bias" in model.tensors}


def _starcoder2(model: GgufModel, name: str) -> Fields:
    return _used_biases(model, name) | {"sliding_window": _window(model, name)}


def _seed_oss(model: GgufModel, name: str) -> Fields:
    return _biases(model, name) | {"attention_out_bias": "blk.0.attn_output.bias" in model.tensors}


def _cohere(model: GgufModel, name: str) -> Fields:
    fields = {
        "logit_scale": model.stated(f"{name}.logit_scale", float),
        "sliding_window": _window(model, name),
        "use_qk_norm": "blk.0.attn_q_norm.weight" in model.tensors,
    }
    return {key: value for key, value in fields.items() if value is not None} | _biases(model, name)


def _qwen(_: GgufModel, __: str) -> Fields:
    return {"use_sliding_window": False}


def _experts(model: GgufModel, name: str) -> Fields:
    shared = f"{name}.expert_shared_feed_forward_length"
    fields = {
        "num_experts": model.needed(f"{name}.expert_count", int),
        "num_experts_per_tok": model.needed(f"{name}.expert_used_count", int),
        "moe_intermediate_size": model.stated(f"{name}.expert_feed_forward_length", int),
        "shared_expert_intermediate_size": model.stated(shared, int),
        "qkv_bias": "blk.0.attn_q.bias" in model.tensors,
        # What llama.cpp goes by: no file says it.
        "norm_topk_prob": name != "qwen2moe",
        "sliding_window": None,
    }
    widths = {"moe_intermediate_size": "gate_exps", "shared_expert_intermediate_size": "gate_shexp"}
    for field, tensor in widths.items():
        info = model.tensors.get(f"blk.0.ffn_{tensor}.weight")
        if fields[field] is None and info is not None and len(info.shape) > 1:
            fields[field] = info.shape[-2]
    return {field: value for field, value in fields.items() if value is not None} | _biases(
        model, name
    )


def _gpt_oss(model: GgufModel, name: str) -> Fields:
    return {
        "num_local_experts": model.needed(f"{name}.expert_count", int),
        "num_experts_per_tok": model.needed(f"{name}.expert_used_count", int),
        "sliding_window": _window(model, name) or 128,
        "attention_bias": "blk.0.attn_q.bias" in model.tensors,
        # So experts are stored with their outputs first, as those of four bits are.
        "quantization_config": {"quant_method": "gguf"},
    }


def _granite(model: GgufModel, name: str) -> Fields:
    scales = {
        "embedding_multiplier": "embedding_scale",
        "residual_multiplier": "residual_scale",
        "attention_multiplier": "attention.scale",
        "logits_scaling": "logit_scale",
    }
    stated = {ours: model.stated(f"{name}.{key}", float) for ours, key in scales.items()}
    return {ours: number for ours, number in stated.items() if number} | _biases(model, name)


def _phi3(model: GgufModel, name: str) -> Fields:
    fields = {
        "sliding_window": _window(model, name),
        "original_max_position_embeddings": model.stated(
            f"{name}.rope.scaling.original_context_length", int
        ),
    }
    return {key: value for key, value in fields.items() if key == "sliding_window" or value}


def _stablelm(model: GgufModel, name: str) -> Fields:
    parallel = model.stated(f"{name}.use_parallel_residual", bool)
    return {
        "use_qkv_bias": "blk.0.attn_q.bias" in model.tensors,
        "use_parallel_residual": bool(parallel),
    }


def _exaone4(model: GgufModel, name: str) -> Fields:
    """Files do not say which layers have the window: three of four, the last has none."""
    window, layers = _window(model, name), model.needed(f"{name}.block_count", int)
    if window is None:
        return {"sliding_window": None, "layer_types": ["full_attention"] * layers}
    return {"sliding_window": window, "sliding_window_pattern": 4}


def _olmo3(model: GgufModel, name: str) -> Fields:
    pattern = model.numbers(f"{name}.attention.sliding_window_pattern")
    layers = model.needed(f"{name}.block_count", int)
    windowed = [number % 4 != 3 for number in range(layers)] if pattern is None else pattern
    return {
        "sliding_window": _window(model, name),
        "layer_types": ["sliding_attention" if one else "full_attention" for one in windowed],
    }


def _window(model: GgufModel, name: str) -> int | None:
    """Tokens, None for none, which is also written as 0."""
    window: int | None = model.stated(f"{name}.attention.sliding_window", int)
    return window or None


def _gemma2(model: GgufModel, name: str) -> Fields:
    return {
        "attn_logit_softcapping": model.stated(f"{name}.attn_logit_softcapping", float),
        "final_logit_softcapping": model.stated(f"{name}.final_logit_softcapping", float),
        "sliding_window": _window(model, name) or 4096,
        "query_pre_attn_scalar": _scalar(model, name, large=46),
    }


def _gemma3(model: GgufModel, name: str) -> Fields:
    return {
        "final_logit_softcapping": model.stated(f"{name}.final_logit_softcapping", float),
        "sliding_window": _window(model, name) or 1024,
        "query_pre_attn_scalar": _scalar(model, name, large=62),
        "rope_theta": 1e6,
        "rope_local_base_freq": model.stated(f"{name}.rope.freq_base_swa", float) or 1e4,
    }


def _scalar(model: GgufModel, name: str, large: int) -> float:
    """Files do not say it: a head's width, but hidden size by heads in the model of most layers."""
    if model.needed(f"{name}.block_count", int) == large:
        hidden = model.needed(f"{name}.embedding_length", int)
        return hidden / max(1, model.needed(f"{name}.attention.head_count", int))
    return float(model.stated(f"{name}.attention.key_length", int) or 256)


#: By `general.architecture`.
ARCHITECTURES = {
    "llama": Architecture("LlamaForCausalLM", "llama", rotated=True, fields=_biases),
    "arcee": Architecture("ArceeForCausalLM", "arcee", rotated=True, fields=_biases),
    "seed_oss": Architecture(
        "SeedOssForCausalLM", "seed_oss", _DENSE | _NORMS_BEHIND, fields=_seed_oss
    ),
    "ernie4_5": Architecture("Ernie4_5ForCausalLM", "ernie4_5", fields=_used_biases),
    "command-r": Architecture(
        "CohereForCausalLM", "cohere", epsilon="layer_norm_eps", fields=_cohere
    ),
    "cohere2": Architecture(
        "Cohere2ForCausalLM", "cohere2", epsilon="layer_norm_eps", fields=_cohere
    ),
    "starcoder2": Architecture(
        "Starcoder2ForCausalLM",
        "starcoder2",
        _DENSE | {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
        epsilon="norm_epsilon",
        fields=_starcoder2,
    ),
    "nemotron": Architecture(
        "NemotronForCausalLM", "nemotron", norm_offset=1, epsilon="norm_eps", fields=_biases
    ),
    "qwen2": Architecture("Qwen2ForCausalLM", "qwen2", fields=_qwen),
    "qwen3": Architecture("Qwen3ForCausalLM", "qwen3", fields=_qwen),
    "qwen2moe": Architecture(
        "Qwen2MoeForCausalLM", "qwen2_moe", _DENSE | _EXPERTS, fields=_experts
    ),
    "qwen3moe": Architecture(
        "Qwen3MoeForCausalLM", "qwen3_moe", _DENSE | _EXPERTS, fields=_experts
    ),
    "stablelm": Architecture(
        "StableLmForCausalLM", "stablelm", epsilon="layer_norm_eps", fields=_stablelm
    ),
    "exaone4": Architecture(
        "Exaone4ForCausalLM", "exaone4", _DENSE | _NORMS_BEHIND, fields=_exaone4
    ),
    "gpt-oss": Architecture(
        "GptOssForCausalLM",
        "gpt_oss",
        _DENSE | {"post_attention_norm": "post_attention_layernorm", "ffn_gate_inp": "mlp.router"},
        whole_names={
            "attn_sinks.weight": "self_attn.sinks",
            **{f"ffn_{part}_exps.weight": "mlp.experts.gate_up_proj" for part in ("gate", "up")},
            **{f"ffn_{part}_exps.bias": "mlp.experts.gate_up_proj_bias" for part in ("gate", "up")},
            "ffn_down_exps.weight": "mlp.experts.down_proj",
            "ffn_down_exps.bias": "mlp.experts.down_proj_bias",
        },
        between={"ffn_gate_exps": "ffn_up_exps"},
        fields=_gpt_oss,
    ),
    "phi3": Architecture(
        "Phi3ForCausalLM",
        "phi3",
        _DENSE | _FUSED_MLP | {"attn_qkv": "self_attn.qkv_proj"},
        fields=_phi3,
    ),
    "granite": Architecture("GraniteForCausalLM", "granite", rotated=True, fields=_granite),
    "smollm3": Architecture("SmolLM3ForCausalLM", "smollm3", rotated=True, fields=_biases),
    "glm4": Architecture(
        "Glm4ForCausalLM",
        "glm4",
        _DENSE
        | _FUSED_MLP
        | {
            "post_attention_norm": "post_self_attn_layernorm",
            "post_ffw_norm": "post_mlp_layernorm",
        },
        fields=_biases,
    ),
    "olmo2": Architecture("Olmo2ForCausalLM", "olmo2", _DENSE | _NORMS_BEHIND, fields=_biases),
    "gemma": Architecture("GemmaForCausalLM", "gemma", norm_offset=1),
    "gemma2": Architecture("Gemma2ForCausalLM", "gemma2", _GEMMA, norm_offset=1, fields=_gemma2),
    "gemma3": Architecture(
        "Gemma3ForCausalLM", "gemma3_text", _GEMMA, norm_offset=1, fields=_gemma3
    ),
}
_MIXTRAL_OF_LLAMA = Architecture(
    "MixtralForCausalLM", "mixtral", _DENSE | _MIXTRAL, rotated=True, fields=_experts
)
_OLMO3 = Architecture("Olmo3ForCausalLM", "olmo3", _DENSE | _NORMS_BEHIND, fields=_olmo3)
