"""Cohere's Command R and R7B, and Aya: attention and MLP beside each other behind one norm."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from tandem.engine.checkpoint.layout import Axis, Division, Norm, TensorSpec
from tandem.engine.families.family import Size
from tandem.engine.families.llama import LlamaConfig, LlamaFamily, RawLlama, head_pairs
from tandem.engine.families.rope import SLIDING, Rope
from tandem.errors import CheckpointError


class _RawCohere(RawLlama, frozen=True, kw_only=True):
    layer_norm_eps: float = 1e-5
    logit_scale: float = 0.0625
    use_qk_norm: bool | None = None


class CohereFamily(LlamaFamily):
    """Norms of queries and keys, where there are any, have weights for each head."""

    raw: ClassVar[type[RawLlama]] = _RawCohere
    eps_field: ClassVar[str] = "layer_norm_eps"

    def own_fields(self, raw: _RawCohere, path: Path) -> dict[str, Any]:
        if not 0 < abs(raw.logit_scale) < float("inf"):
            raise CheckpointError(f"{path}: logit_scale is {raw.logit_scale}; expected a number")
        return {
            "layer_norms": True,
            "logit_scale": raw.logit_scale,
            "qk_norm": bool(raw.use_qk_norm),
        }

    def head_norms(self, config: LlamaConfig, prefix: str) -> tuple[Norm, Norm]:
        fold, pairs = config.num_heads // config.num_kv_heads, head_pairs(config, axis=1)
        queries, keys = (
            Norm(
                TensorSpec(
                    f"{prefix}{name}.weight",
                    (config.num_kv_heads * each, config.head_dim),
                    Division(Axis.KV_HEADS, each),
                    mean=1.0,
                    pairs=pairs,
                )
            )
            for name, each in (("q_norm", fold), ("k_norm", 1))
        )
        return queries, keys

    def example_config(self, size: Size) -> dict[str, Any]:
        return super().example_config(size) | {"layer_norm_eps": 1e-5, "logit_scale": 0.25}


class Cohere2Family(CohereFamily):
    """Windows on three layers of four; the others don't rotate, and no layer norms its heads."""

    def ropes(
        self, raw: _RawCohere, head_dim: int, kinds: Sequence[str], path: Path
    ) -> tuple[Rope | None, ...]:
        ropes = super().ropes(raw, head_dim, kinds, path)
        return tuple(
            rope if kind == SLIDING else None for rope, kind in zip(ropes, kinds, strict=True)
        )

    def own_fields(self, raw: _RawCohere, path: Path) -> dict[str, Any]:
        return super().own_fields(raw, path) | {"qk_norm": False}


_COHERE: dict[str, Any] = {
    "vocab_size": 256_000,
    "hidden_size": 8192,
    "intermediate_size": 22_528,
    "num_hidden_layers": 40,
    "num_attention_heads": 64,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
_NORMS = {"attention_norm": "input_layernorm"}
FAMILIES = {
    "CohereForCausalLM": CohereFamily(
        name="cohere",
        model="parallel",
        norms=_NORMS,
        defaults={**_COHERE, "rope_theta": 5e5},
        default_eos=255_001,
        rotates_pairs=True,
    ),
    "Cohere2ForCausalLM": Cohere2Family(
        name="cohere2",
        model="parallel",
        norms=_NORMS,
        defaults={**_COHERE, "sliding_window": 4096},
        default_eos=255_001,
        rotates_pairs=True,
        always_windowed=True,
        full_every=4,
    ),
}
