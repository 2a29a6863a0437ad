"""Names and shapes of every tensor of a checkpoint.

The one list that loading checks against, that `model inspect` counts, and from which random
checkpoints are made. Shapes are (out_features, in_features), as Hugging Face stores them.
"""

from __future__ import annotations

from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.dtypes import ITEM_BYTES

EMBEDDING = "model.embed_tokens.weight"
FINAL_NORM = "model.norm.weight"
HEAD = "lm_head.weight"

#: Older exports carry these; they are derived from the config and not read.
IGNORED_SUFFIXES = ("rotary_emb.inv_freq",)

Shapes = dict[str, tuple[int, ...]]


def layer_prefix(layer: int) -> str:
    return f"model.layers.{layer}."


def tensor_shapes(config: ModelConfig) -> Shapes:
    """Every tensor that the checkpoint must hold, by its full name."""
    shapes: Shapes = {
        EMBEDDING: (config.vocab_size, config.hidden_size),
        FINAL_NORM: (config.hidden_size,),
    }
    if not config.tie_word_embeddings:
        shapes[HEAD] = (config.vocab_size, config.hidden_size)
    per_layer = _layer_shapes(config)
    for layer in range(config.num_layers):
        prefix = layer_prefix(layer)
        shapes |= {prefix + name: shape for name, shape in per_layer.items()}
    return shapes


def parameter_count(config: ModelConfig) -> int:
    count = 0
    for shape in tensor_shapes(config).values():
        size = 1
        for extent in shape:
            size *= extent
        count += size
    return count


def _layer_shapes(config: ModelConfig) -> Shapes:
    hidden, columns = config.hidden_size, config.intermediate_size
    queries = config.num_heads * config.head_dim
    keys = config.num_kv_heads * config.head_dim
    shapes: Shapes = {
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
    }
    projections = {
        "self_attn.q_proj": (queries, hidden, config.qkv_bias),
        "self_attn.k_proj": (keys, hidden, config.qkv_bias),
        "self_attn.v_proj": (keys, hidden, config.qkv_bias),
        "self_attn.o_proj": (hidden, queries, config.output_bias),
        "mlp.gate_proj": (columns, hidden, config.mlp_bias),
        "mlp.up_proj": (columns, hidden, config.mlp_bias),
        "mlp.down_proj": (hidden, columns, config.mlp_bias),
    }
    for name, (rows, inputs, has_bias) in projections.items():
        shapes[f"{name}.weight"] = (rows, inputs)
        if has_bias:
            shapes[f"{name}.bias"] = (rows,)
    if config.qk_norm:
        shapes["self_attn.q_norm.weight"] = (config.head_dim,)
        shapes["self_attn.k_norm.weight"] = (config.head_dim,)
    return shapes


def kv_bytes_per_token(config: ModelConfig, dtype: str) -> int:
    """Bytes of keys and values that one token of context takes, in all layers."""
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * ITEM_BYTES[dtype]
