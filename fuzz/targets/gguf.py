"""A GGUF: the whole file. What can be read of it is read to the last number."""

from __future__ import annotations

import shutil

from fuzz.folders import new_folder
from tandem.engine.checkpoint.gguf.folder import write_description
from tandem.engine.checkpoint.gguf.source import GgufSource
from tandem.engine.inspect import inspect_checkpoint
from tandem.errors import TandemError

PREFIX, CODEC = 0, None
TOKENS = (
    *("GGUF", "general.architecture", "general.alignment", "general.file_type", "llama", "qwen2"),
    *("gemma3", "phi3", "granite", "glm4", "olmo2", "llama.block_count", "llama.context_length"),
    *("llama.embedding_length", "llama.feed_forward_length", "llama.attention.head_count"),
    *("llama.attention.head_count_kv", "llama.attention.key_length", "llama.rope.freq_base"),
    *("llama.attention.layer_norm_rms_epsilon", "llama.rope.scaling.type", "llama.rope.scaling"),
    *("rope_freqs.weight", "split.count", "split.no", "tokenizer.ggml.model", "gpt2", "yarn"),
    *("tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "smollm"),
    *("tokenizer.ggml.merges", "tokenizer.ggml.scores", "tokenizer.ggml.eos_token_id"),
    *("tokenizer.ggml.add_bos_token", "tokenizer.chat_template", "token_embd.weight"),
    *("output_norm.weight", "output.weight", "blk.0.attn_q.weight", "blk.0.ffn_gate_exps.weight"),
)
_FOLDER = new_folder()
_FILE = _FOLDER / "model.gguf"


def run(data: bytes) -> None:
    _FILE.write_bytes(data)
    described = _FOLDER / "described"
    described.mkdir()
    try:
        _read_all()
        write_description(described, [_FILE])
        inspect_checkpoint(described)
    except TandemError:
        return
    finally:
        shutil.rmtree(described)


def _read_all() -> None:
    source = GgufSource(_FILE, "numpy")
    try:
        for name in source.files:
            source.read(name)
    finally:
        source.close()
