"""A Llama checkpoint written as GGUF, so that llama.cpp runs on the same weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from tandem.bench import Job
from tandem.engine import read_config, tensor_shapes
from tandem.engine.checkpoint.formats import open_weights
from tandem.engine.checkpoint.gguf.choice import LINKS
from tandem.engine.families.llama import LlamaConfig
from tandem.errors import ConfigurationError

_LAYER_TENSORS = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_OUTER_TENSORS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def converted(job: Job, kind: str) -> Path:
    """The checkpoint as GGUF of one type, such as `BF16`, made once.

    Raises ConfigurationError for other families.
    """
    path = job.scratch / f"{kind}.gguf"
    if not path.exists():
        _convert(job.model, path, kind)
    return path


def described(job: Job, kind: str) -> Path:
    """The same as a folder that Tandem reads, with the tokenizer of the checkpoint."""
    folder = job.scratch / kind
    (folder / LINKS).mkdir(parents=True)
    (folder / LINKS / f"{kind}.gguf").symlink_to(converted(job, kind))
    for path in job.model.glob("*.json"):
        shutil.copy(path, folder)
    return folder


def _convert(model: Path, path: Path, kind: str) -> None:
    """Raises ConfigurationError for an architecture other than Llama's."""
    import gguf

    config = read_config(model)
    if config.architecture != "LlamaForCausalLM" or not isinstance(config, LlamaConfig):
        raise ConfigurationError(f"{model} is no Llama: only those are compared with llama.cpp")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    rope = config.ropes[0]
    assert rope is not None, "all layers of a Llama rotate"
    writer.add_rope_freq_base(rope.theta)
    writer.add_rope_dimension_count(rope.dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    wanted, plain = gguf.GGMLQuantizationType[kind], gguf.GGMLQuantizationType.F32
    shapes = tensor_shapes(config)
    with open_weights(model, "pt", shapes) as weights:
        for name in shapes:
            weight = weights.read(name).float()
            heads = {"heads": config.num_heads, "kv_heads": config.num_kv_heads}
            values = permuted(weight, name, **heads).numpy()
            block, _ = gguf.GGML_QUANT_SIZES[wanted]
            stored = plain if values.ndim == 1 or values.shape[1] % block else wanted
            packed = gguf.quants.quantize(values, stored)
            writer.add_tensor(gguf_name(name), packed, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """Of a checkpoint's tensor."""
    if name in _OUTER_TENSORS:
        return _OUTER_TENSORS[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_LAYER_TENSORS[rest.removesuffix('.weight')]}.weight"


def permuted(weight: torch.Tensor, name: str, *, heads: int, kv_heads: int) -> torch.Tensor:
    """llama.cpp rotates neighbours, checkpoints hold halves: rows of queries and keys move."""
    if "q_proj" in name:
        count = heads
    elif "k_proj" in name:
        count = kv_heads
    else:
        return weight
    rows, columns = weight.shape
    halves = weight.view(count, 2, rows // count // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns)
