"""A model's folder: the first byte says which file the rest is; the others are sound."""

from __future__ import annotations

import struct

from fuzz.folders import sound_checkpoint
from tandem.engine.inspect import inspect_checkpoint
from tandem.engine.text.tokenizer import Tokenizer
from tandem.errors import TandemError

PREFIX, CODEC = 1, "json"
TOKENS = (
    *("architectures", "LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"),
    *("Qwen3ForCausalLM", "hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"),
    *("rope_scaling", "rope_theta", "rope_type", "llama3", "linear", "factor", "sliding_window"),
    *("layer_types", "eos_token_id", "quantization_config", "dtype", "torch_dtype", "weight_map"),
    *("data_offsets", "shape", "F32", "BF16", "__metadata__", "chat_template", "eos_token"),
    *("temperature", "top_k", "top_p", "do_sample", "additional_special_tokens", "__type"),
)
_WEIGHTS = "model.safetensors"
#: What may stand in place of a sound file. Of the weights it is the header, or the whole file.
PLACES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "model.safetensors.index.json",
    "header",
    _WEIGHTS,
)
FOLDER = sound_checkpoint()
_SOUND = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
_HEADER_BYTES = struct.unpack("<Q", _SOUND[_WEIGHTS][:8])[0]
HEADER = _SOUND[_WEIGHTS][8 : 8 + _HEADER_BYTES]
_NUMBERS = _SOUND[_WEIGHTS][8 + _HEADER_BYTES :]


def run(data: bytes) -> None:
    if not data:
        return
    place, content = PLACES[data[0] % len(PLACES)], data[1:]
    name = _WEIGHTS if place == "header" else place
    path = FOLDER / name
    path.write_bytes(_with_header(content) if place == "header" else content)
    try:
        inspect_checkpoint(FOLDER)
        Tokenizer(FOLDER)
    except TandemError:
        return
    finally:
        if name in _SOUND:
            path.write_bytes(_SOUND[name])
        else:
            path.unlink()


def _with_header(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + _NUMBERS
