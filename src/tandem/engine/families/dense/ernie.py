"""ERNIE 4.5, the dense ones: Llama whose heads rotate in pairs; all maps have biases or none."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from tandem.engine.families.llama import LlamaFamily, RawLlama


class _RawErnie(RawLlama, frozen=True, kw_only=True):
    use_bias: bool | None = None


class ErnieFamily(LlamaFamily):
    raw: ClassVar[type[RawLlama]] = _RawErnie

    def own_fields(self, raw: _RawErnie, path: Path) -> dict[str, Any]:  # noqa: ARG002
        return dict.fromkeys(("qkv_bias", "output_bias", "mlp_bias"), bool(raw.use_bias))


FAMILIES = {
    "Ernie4_5ForCausalLM": ErnieFamily(
        name="ernie4_5",
        defaults={
            "vocab_size": 103_424,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "num_hidden_layers": 18,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-5,
            "rope_theta": 5e5,
            "tie_word_embeddings": True,
        },
        default_eos=2,
        rotates_pairs=True,
    )
}
