"""GLM-4: pairs of a head's first half rotate, gate and up are in one tensor.

The models of 2025 (`glm4`) have norms behind attention and MLP as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tandem.engine.checkpoint.layout import fused
from tandem.engine.families.llama import LlamaConfig, LlamaFamily, RawLlama
from tandem.engine.families.mlp import MLPTensors
from tandem.engine.families.rope import Rope
from tandem.errors import CheckpointError


class GlmFamily(LlamaFamily):
    def stated(self, directory: Path) -> RawLlama:
        """A null in place of the tokens that end a text is as good as none."""
        raw: RawLlama = super().stated(directory)
        if raw.eos_token_id is not None:
            return raw
        return msgspec.structs.replace(raw, eos_token_id=msgspec.UNSET)

    def ropes(
        self, raw: RawLlama, head_dim: int, kinds: Sequence[str], path: Path
    ) -> tuple[Rope | None, ...]:
        ropes = super().ropes(raw, head_dim, kinds, path)
        for rope in ropes:
            if rope is not None and rope.dim % 2:
                raise CheckpointError(
                    f"{path}: partial_rotary_factor makes {rope.dim} numbers of a head rotate; "
                    "expected an even number"
                )
        return ropes

    def mlp(self, config: LlamaConfig, prefix: str) -> MLPTensors:
        one = super().mlp(config, prefix)
        gate, up = fused(prefix + "gate_up_proj", one.gate, one.up)
        return msgspec.structs.replace(one, gate=gate, up=up)


_GLM: dict[str, Any] = {
    "defaults": {
        "vocab_size": 151_552,
        "intermediate_size": 13_696,
        "num_hidden_layers": 40,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "max_position_embeddings": 131_072,
        "rms_norm_eps": 1.5625e-7,
        "partial_rotary_factor": 0.5,
        "attention_bias": True,
    },
    "default_eos": (151_329, 151_336, 151_338),
    "output_bias": False,
    "rotates_pairs": True,
    "usually_tied": False,
}
FAMILIES = {
    "GlmForCausalLM": GlmFamily(name="glm", **_GLM),
    "Glm4ForCausalLM": GlmFamily(
        name="glm4",
        norms={
            "attention_norm": "input_layernorm",
            "attended_norm": "post_self_attn_layernorm",
            "mlp_norm": "post_attention_layernorm",
            "mlp_out_norm": "post_mlp_layernorm",
        },
        **_GLM,
    ),
}
