"""The text models of Qwen 2.5 VL and Qwen 3 VL.

Where nothing but text is seen, the three positions of a token that they rotate by are one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tandem.engine.families.llama import DEFAULTS, LlamaFamily, RawLlama
from tandem.engine.families.rope import with_rules_renamed
from tandem.engine.families.wrapped import QWEN, read_text, wrapped


class QwenVLFamily(LlamaFamily):
    def stated(self, directory: Path) -> RawLlama:
        raw = read_text(directory, RawLlama, {**DEFAULTS, **self.defaults}, flat=True)
        return with_rules_renamed(raw, {"mrope": "default"})

    def config_file(self, fields: dict[str, Any]) -> dict[str, Any]:
        return wrapped(fields, f"{self.name}_text")


FAMILIES = {
    "Qwen2_5_VLForConditionalGeneration": QwenVLFamily(
        name="qwen2_5_vl",
        defaults={
            "vocab_size": 152_064,
            "hidden_size": 8192,
            "intermediate_size": 29_568,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "max_position_embeddings": 32_768,
            "rms_norm_eps": 1e-5,
            "sliding_window": 4096,
            "max_window_layers": 80,
        },
        default_eos=151_645,
        qkv_bias=True,
        output_bias=False,
        **QWEN.fields,
    ),
    "Qwen3VLForConditionalGeneration": QwenVLFamily(
        name="qwen3_vl",
        defaults={
            "vocab_size": 151_936,
            "intermediate_size": 22_016,
            "num_key_value_heads": 32,
            "head_dim": 128,
            "max_position_embeddings": 128_000,
            "rope_theta": 5e5,
        },
        qk_norm=True,
        **QWEN.fields,
    ),
}
