"""llama.cpp on the same weights: written as GGUF, run through llama-cpp-python's C interface."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tandem.bench.engines import CONTEXT, MAX_BATCH, Generator, Job, Times
from tandem.engine import ModelConfig, tensor_shapes
from tandem.engine.checkpoint.config import read_config
from tandem.engine.checkpoint.safetensors import Checkpoint
from tandem.errors import ConfigurationError

_PREFILL_ROWS = 512
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


def bf16(job: Job) -> Generator:
    return _LlamaCpp(_converted(job, "BF16"), job.threads)


def q8_0(job: Job) -> Generator:
    return _LlamaCpp(_converted(job, "Q8_0"), job.threads)


class _LlamaCpp:
    def __init__(self, path: Path, threads: int) -> None:
        from llama_cpp import llama_cpp as api

        self._api = api
        self._quiet = api.llama_log_callback(lambda *_: None)  # kept, or it would be freed
        api.llama_log_set(self._quiet, None)
        api.llama_backend_init()
        options = api.llama_model_default_params()
        # Its AMX buffers crash on the first step of some builds; they hold no bf16 anyway.
        options.use_extra_bufts = path.stem != "Q8_0"
        self._model = api.llama_model_load_from_file(str(path).encode(), options)
        settings = api.llama_context_default_params()
        settings.n_ctx = MAX_BATCH * CONTEXT
        settings.n_batch = settings.n_ubatch = _PREFILL_ROWS
        settings.n_seq_max = MAX_BATCH
        settings.n_threads = settings.n_threads_batch = threads
        settings.no_perf = True
        self._context = api.llama_init_from_model(self._model, settings)
        if not self._model or not self._context:
            raise ConfigurationError(f"llama.cpp cannot load {path}")
        self._batch = api.llama_batch_init(_PREFILL_ROWS, 0, MAX_BATCH)
        self._vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))

    def generate(self, prompts: list[list[int]], tokens: int) -> Times:
        api = self._api
        api.llama_memory_clear(api.llama_get_memory(self._context), True)
        began = time.perf_counter()
        rows = [
            (token, position, sequence, position == len(prompt) - 1)
            for sequence, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        newest: list[int] = []
        for start in range(0, len(rows), _PREFILL_ROWS):
            newest += self._decode(rows[start : start + _PREFILL_ROWS])
        first_at = time.perf_counter()
        position = len(prompts[0])
        for step in range(tokens - 1):
            newest = self._decode(
                [(token, position + step, index, True) for index, token in enumerate(newest)]
            )
        return Times(first_at - began, time.perf_counter() - first_at)

    def _decode(self, rows: list[tuple[int, int, int, bool]]) -> list[int]:
        """Runs rows of (token, position, sequence, wanted); the likeliest tokens of the wanted."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for index, (token, position, sequence, wanted) in enumerate(rows):
            batch.token[index] = token
            batch.pos[index] = position
            batch.n_seq_id[index] = 1
            batch.seq_id[index][0] = sequence
            batch.logits[index] = wanted
        if self._api.llama_decode(self._context, batch) != 0:
            raise ConfigurationError("llama.cpp failed on a step")
        return [self._likeliest(index) for index, row in enumerate(rows) if row[3]]

    def _likeliest(self, row: int) -> int:
        logits = self._api.llama_get_logits_ith(self._context, row)
        return int(np.argmax(np.ctypeslib.as_array(logits, (self._vocabulary,))))


def _converted(job: Job, kind: str) -> Path:
    """The checkpoint as GGUF."""
    path = job.scratch / f"{kind}.gguf"
    _convert(job.model, path, kind)
    return path


def _convert(model: Path, path: Path, kind: str) -> None:
    """Raises ConfigurationError for an architecture other than Llama's."""
    import gguf

    config = read_config(model)
    if config.architecture != "LlamaForCausalLM":
        raise ConfigurationError(f"{model} is no Llama: only those are compared with llama.cpp")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    wanted, plain = gguf.GGMLQuantizationType[kind], gguf.GGMLQuantizationType.F32
    shapes = tensor_shapes(config)
    with Checkpoint(model, shapes) as checkpoint:
        for name in shapes:
            values = _permuted(checkpoint.read(name, torch.float32), name, config).numpy()
            block, _ = gguf.GGML_QUANT_SIZES[wanted]
            stored = plain if values.ndim == 1 or values.shape[1] % block else wanted
            packed = gguf.quants.quantize(values, stored)
            writer.add_tensor(_gguf_name(name), packed, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gguf_name(name: str) -> str:
    if name in _OUTER_TENSORS:
        return _OUTER_TENSORS[name]
    _, _, layer, rest = name.split(".", 3)
    return f"blk.{layer}.{_LAYER_TENSORS[rest.removesuffix('.weight')]}.weight"


def _permuted(weight: torch.Tensor, name: str, config: ModelConfig) -> torch.Tensor:
    """llama.cpp rotates neighbours, checkpoints hold halves: rows of queries and keys move."""
    heads = {"q_proj": config.num_heads, "k_proj": config.num_kv_heads}
    count: Any = next((n for part, n in heads.items() if part in name), None)
    if count is None:
        return weight
    rows, columns = weight.shape
    halves = weight.view(count, 2, rows // count // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns)
