"""Mistral, Ministral, Ministral 3, and the text models within those that see."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from tandem.engine.checkpoint.config import CONFIG_FILE
from tandem.engine.families.llama import DEFAULTS, LlamaFamily, RawLlama
from tandem.engine.families.rope import RawRope
from tandem.engine.families.wrapped import LLAVA, read_text, read_text_type, wrapped
from tandem.errors import CheckpointError

_MISTRAL = {
    "intermediate_size": 14336,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131_072,
    "sliding_window": 4096,
}
_MINISTRAL3 = {
    "vocab_size": 131_072,
    "intermediate_size": 14336,
    "num_hidden_layers": 34,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 262_144,
    "rms_norm_eps": 1e-5,
}
_ROPE = RawRope(
    rope_type="yarn",
    rope_theta=1e6,
    factor=16.0,
    original_max_position_embeddings=16384,
    mscale=1.0,
    mscale_all_dim=1.0,
    llama_4_scaling_beta=0.1,
)
#: What configs of text models leave out, by their type.
_TEXTS: Mapping[str, Mapping[str, Any]] = {"mistral": _MISTRAL, "ministral3": _MINISTRAL3}


class Ministral3Family(LlamaFamily):
    """Its queries grow with the position."""

    def stated(self, directory: Path) -> RawLlama:
        return _rotating(super().stated(directory))


class Mistral3Family(LlamaFamily):
    """Mistral or Ministral 3 within a model that sees."""

    def stated(self, directory: Path) -> RawLlama:
        text = read_text_type(directory, "mistral")
        if text not in _TEXTS:
            raise CheckpointError(
                f"{directory / CONFIG_FILE}: text_config has model_type {text!r}; "
                f"expected one of {tuple(_TEXTS)}"
            )
        raw = read_text(directory, self.raw, {**DEFAULTS, **_TEXTS[text]})
        return _rotating(raw) if text == "ministral3" else raw

    def config_file(self, fields: dict[str, Any]) -> dict[str, Any]:
        return wrapped(fields, "mistral")


def _rotating(raw: RawLlama) -> RawLlama:
    stated = raw.rope_parameters or _ROPE
    return msgspec.structs.replace(raw, rope_parameters=stated)


_SWITCHES: dict[str, Any] = {
    "default_eos": 2,
    "qkv_bias": False,
    "output_bias": False,
    "always_windowed": True,
    "usually_tied": False,
}

FAMILIES = {
    "MistralForCausalLM": LlamaFamily(name="mistral", defaults=_MISTRAL, **_SWITCHES),
    "MinistralForCausalLM": LlamaFamily(name="ministral", defaults=_MISTRAL, **_SWITCHES),
    "Ministral3ForCausalLM": Ministral3Family(name="ministral3", defaults=_MINISTRAL3, **_SWITCHES),
    "Mistral3ForConditionalGeneration": Mistral3Family(
        name="mistral3", **LLAVA.fields, **_SWITCHES
    ),
}
