"""Seed-OSS: Llama with biases of queries, keys and values, and one of the output by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from tandem.engine.families.llama import LlamaFamily, RawLlama


class _RawSeedOss(RawLlama, frozen=True, kw_only=True):
    attention_out_bias: bool = False


class SeedOssFamily(LlamaFamily):
    raw: ClassVar[type[RawLlama]] = _RawSeedOss

    def own_fields(self, raw: _RawSeedOss, path: Path) -> dict[str, Any]:  # noqa: ARG002
        return {"output_bias": raw.attention_out_bias}


FAMILIES = {
    "SeedOssForCausalLM": SeedOssFamily(
        name="seed_oss",
        defaults={
            "vocab_size": 155_136,
            "intermediate_size": 27_648,
            "num_hidden_layers": 64,
            "num_attention_heads": 80,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 524_288,
            "attention_bias": True,
        },
        default_eos=2,
        mlp_bias=None,
        usually_tied=False,
    )
}
