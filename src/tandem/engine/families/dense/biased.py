"""Llama with biases in other places: Seed-OSS, InternLM 3."""

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


class _RawInternLM(RawLlama, frozen=True, kw_only=True):
    qkv_bias: bool | None = None
    bias: bool | None = None


class InternLMFamily(LlamaFamily):
    """Llama's names count where the family's own are not there."""

    raw: ClassVar[type[RawLlama]] = _RawInternLM

    def own_fields(self, raw: _RawInternLM, path: Path) -> dict[str, Any]:  # noqa: ARG002
        qkv = raw.attention_bias if raw.qkv_bias is None else raw.qkv_bias
        rest = raw.mlp_bias if raw.bias is None else raw.bias
        return {"qkv_bias": bool(qkv), "output_bias": bool(rest), "mlp_bias": bool(rest)}


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
    ),
    "InternLM3ForCausalLM": InternLMFamily(
        name="internlm3",
        defaults={
            "vocab_size": 128_512,
            "intermediate_size": 10_240,
            "num_hidden_layers": 48,
            "num_key_value_heads": 2,
            "head_dim": 128,
            "max_position_embeddings": 32_768,
            "rms_norm_eps": 1e-5,
        },
        default_eos=2,
        usually_tied=False,
    ),
}
