"""Granite 3, and the dense ones of Granite 4: Llama with scales of what goes in, on and out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tandem.engine.checkpoint.config import CONFIG_FILE
from tandem.engine.checkpoint.layout import Axis, Division, fused
from tandem.engine.families.family import Size
from tandem.engine.families.llama import (
    LlamaConfig,
    LlamaFamily,
    RawLlama,
    positive,
)
from tandem.engine.families.mlp import MLPTensors, mlp_tensors
from tandem.engine.families.rope import FULL, Rope
from tandem.errors import CheckpointError

_EXAMPLE = {
    "embedding_multiplier": 12.0,
    "residual_multiplier": 0.22,
    "attention_multiplier": 0.0625,
    "logits_scaling": 8.0,
}


class _RawGranite(RawLlama, frozen=True, kw_only=True):
    embedding_multiplier: float = 1.0
    residual_multiplier: float = 1.0
    attention_multiplier: float = 1.0
    logits_scaling: float = 1.0


class GraniteFamily(LlamaFamily):
    raw: ClassVar[type[RawLlama]] = _RawGranite

    def own_fields(self, raw: _RawGranite, path: Path) -> dict[str, Any]:
        return {
            "embedding_scale": positive("embedding_multiplier", raw.embedding_multiplier, path),
            "residual_scale": positive("residual_multiplier", raw.residual_multiplier, path),
            "attention_scale": positive("attention_multiplier", raw.attention_multiplier, path),
            "logit_scale": 1 / positive("logits_scaling", raw.logits_scaling, path),
        }

    def example_config(self, size: Size) -> dict[str, Any]:
        return super().example_config(size) | _EXAMPLE


class _RawGranite4(_RawGranite, frozen=True, kw_only=True):
    num_local_experts: int = 8
    shared_intermediate_size: int = 1024
    position_embedding_type: str | None = None


class Granite4Family(GraniteFamily):
    """The MLP is what others call a shared expert; its gate and up are in one tensor."""

    raw: ClassVar[type[RawLlama]] = _RawGranite4

    def stated(self, directory: Path) -> _RawGranite4:
        raw, path = super().stated(directory), directory / CONFIG_FILE
        assert isinstance(raw, _RawGranite4)
        if raw.num_local_experts:
            raise CheckpointError(
                f"{path}: num_local_experts is {raw.num_local_experts}; expected 0: of this "
                "architecture, models without experts are supported"
            )
        kinds = set(raw.layer_types or ["mamba"])
        if not kinds <= {"attention", FULL}:
            raise CheckpointError(
                f"{path}: layer_types are {sorted(kinds)[:5]}; expected 'attention' alone: of this "
                "architecture, models without state space layers are supported"
            )
        return msgspec.structs.replace(
            raw, intermediate_size=raw.shared_intermediate_size, layer_types=None
        )

    def ropes(
        self, raw: _RawGranite4, head_dim: int, kinds: Sequence[str], path: Path
    ) -> tuple[Rope | None, ...]:
        if raw.position_embedding_type != "rope":
            return (None,) * len(kinds)
        return super().ropes(raw, head_dim, kinds, path)

    def mlp(self, config: LlamaConfig, prefix: str) -> MLPTensors:
        prefix = prefix.removesuffix("mlp.") + "shared_mlp."
        columns = (config.intermediate_size, config.hidden_size)
        one = mlp_tensors(prefix, columns, Division(Axis.COLUMNS))
        gate, up = fused(prefix + "input_linear", one.gate, one.up)
        (down,) = fused(prefix + "output_linear", one.down)
        return MLPTensors(gate, up, down)

    def example_config(self, size: Size) -> dict[str, Any]:
        return super().example_config(size) | {
            "num_local_experts": 0,
            "shared_intermediate_size": size.intermediate,
            "position_embedding_type": "rope",
            "layer_types": ["full_attention"] * size.layers,
        }


_GRANITE = {"intermediate_size": 11008, "max_position_embeddings": 2048}

FAMILIES = {
    "GraniteForCausalLM": GraniteFamily(
        name="granite", defaults=_GRANITE, default_eos=2, mlp_bias=None
    ),
    "GraniteMoeHybridForCausalLM": Granite4Family(
        name="granitemoehybrid", defaults=_GRANITE, default_eos=2
    ),
}
