"""Hunyuan, the dense ones: norms of queries and keys behind the rotation, and a stretched base."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tandem.engine.checkpoint.config import CONFIG_FILE
from tandem.engine.checkpoint.layout import norm
from tandem.engine.families.llama import (
    AttentionTensors,
    LlamaConfig,
    LlamaFamily,
    RawLlama,
    positive,
)
from tandem.engine.families.rope import RawRope, Rope
from tandem.errors import CheckpointError

#: Models have 1000.
_MOST_ALPHA = 1e9


class HunYuanFamily(LlamaFamily):
    def stated(self, directory: Path) -> RawLlama:
        """`alpha` of a rule that is called dynamic stretches the base, whatever the length."""
        raw: RawLlama = super().stated(directory)
        path = directory / CONFIG_FILE
        parts = {"rope_scaling": raw.rope_scaling, "rope_parameters": raw.rope_parameters}
        stretched = {name: _stretched(rope, raw, path) for name, rope in parts.items()}
        return msgspec.structs.replace(raw, **stretched)

    def own_fields(self, raw: RawLlama, path: Path) -> dict[str, Any]:  # noqa: ARG002
        return {"norm_rotated": True}

    def ropes(
        self, raw: RawLlama, head_dim: int, kinds: Sequence[str], path: Path
    ) -> tuple[Rope | None, ...]:
        ropes = super().ropes(raw, head_dim, kinds, path)
        if any(rope is not None and rope.attention_factor != 1.0 for rope in ropes):
            raise CheckpointError(
                f"{path}: rope_scaling has an attention factor; expected a rule without one: "
                "norms are behind the rotation"
            )
        return ropes

    def attention(self, config: LlamaConfig, prefix: str) -> AttentionTensors:
        return msgspec.structs.replace(
            super().attention(config, prefix),
            query_norm=norm(prefix + "query_layernorm", config.head_dim),
            key_norm=norm(prefix + "key_layernorm", config.head_dim),
        )


def _stretched(rope: RawRope | None, raw: RawLlama, path: Path) -> RawRope | None:
    if rope is None or not rope.alpha or "dynamic" not in (rope.rope_type, rope.type):
        return rope
    dim = raw.head_dim or raw.hidden_size // max(1, raw.num_attention_heads)
    if dim < 4:
        raise CheckpointError(f"{path}: head_dim is {dim}; expected at least 4")
    theta = rope.rope_theta or raw.rope_theta or 1e4
    alpha = positive("alpha", rope.alpha, path)
    if alpha > _MOST_ALPHA:
        raise CheckpointError(f"{path}: alpha is {alpha}; expected at most {_MOST_ALPHA}")
    return msgspec.structs.replace(
        rope, rope_type="default", rope_theta=theta * alpha ** (dim / (dim - 2))
    )


FAMILIES = {
    "HunYuanDenseV1ForCausalLM": HunYuanFamily(
        name="hunyuan_v1_dense",
        defaults={
            "vocab_size": 290_943,
            "intermediate_size": 11008,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
        },
        default_eos=2,
    ),
}
