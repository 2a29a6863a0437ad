"""Phi-3, 3.5 and 4: Llama, but for files that have queries, keys and values in one tensor."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tandem.engine.checkpoint.layout import fused
from tandem.engine.families.llama import (
    AttentionTensors,
    LlamaConfig,
    LlamaFamily,
    RawLlama,
)
from tandem.engine.families.mlp import MLPTensors
from tandem.engine.families.rope import with_rules_renamed

#: What `longrope` was called before.
_OLD_NAMES = {"su": "longrope", "yarn": "longrope"}


class Phi3Family(LlamaFamily):
    """Gate and up are in one tensor too. Where there is a window all layers have it."""

    def stated(self, directory: Path) -> RawLlama:
        raw: RawLlama = super().stated(directory)
        return with_rules_renamed(raw, _OLD_NAMES)

    def attention(self, config: LlamaConfig, prefix: str) -> AttentionTensors:
        one = super().attention(config, prefix)
        parts = fused(prefix + "qkv_proj", one.queries, one.keys, one.values)
        return msgspec.structs.replace(one, queries=parts[0], keys=parts[1], values=parts[2])

    def mlp(self, config: LlamaConfig, prefix: str) -> MLPTensors:
        one = super().mlp(config, prefix)
        gate, up = fused(prefix + "gate_up_proj", one.gate, one.up)
        return msgspec.structs.replace(one, gate=gate, up=up)


FAMILIES = {
    "Phi3ForCausalLM": Phi3Family(
        name="phi3",
        defaults={
            "vocab_size": 32064,
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
        },
        default_eos=32000,
        qkv_bias=False,
        output_bias=False,
        always_windowed=True,
        usually_tied=False,
    ),
}
