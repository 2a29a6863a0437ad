"""Mixtures of experts in place of Llama's MLP: Mixtral, OLMoE, Qwen2-MoE, Qwen3-MoE."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tandem.engine.checkpoint.layout import (
    Axis,
    Division,
    TensorSpec,
    WeightBytes,
    projection,
    specs_of,
)
from tandem.engine.families.family import Size
from tandem.engine.families.llama import LlamaConfig, LlamaFamily, LlamaLayer, RawLlama
from tandem.engine.families.mlp import ExpertTensors, Routing, mlp_tensors
from tandem.engine.families.rope import FULL, SLIDING
from tandem.errors import CheckpointError

#: Far above every model there is, as for other sizes: each expert of each layer is three tensors.
_MOST_EXPERTS, _MOST_EXPERTS_OF_ALL_LAYERS, _MOST_COLUMNS = 2**11, 2**16, 2**20


class RawExperts(RawLlama, frozen=True, kw_only=True):
    """`transformers` knows the number of experts by two names."""

    num_experts: int | None = None
    num_local_experts: int | None = None
    num_experts_per_tok: int
    moe_intermediate_size: int | None = None
    norm_topk_prob: bool = True
    decoder_sparse_step: int = 1
    mlp_only_layers: list[int] | None = None


class _RawQwen2Moe(RawExperts, frozen=True, kw_only=True):
    shared_expert_intermediate_size: int
    attention_bias: bool | None = msgspec.field(default=True, name="qkv_bias")


@dataclass(frozen=True, kw_only=True)
class MoeFamily(LlamaFamily):
    """As Llama but for the experts, which files have beside their router below `block`.

    `names` are those of an expert's gate, up and down.
    """

    raw: ClassVar[type[RawExperts]] = RawExperts

    default_experts: int
    block: str = "mlp."
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    usually_tied: bool = False

    def own_fields(self, raw: Any, path: Path) -> dict[str, Any]:  # noqa: ANN401
        counts = (raw.num_local_experts, raw.num_experts, self.default_experts)
        count = next(stated for stated in counts if stated is not None)
        within(count, "num_experts", _MOST_EXPERTS, path)
        within(count * raw.num_hidden_layers, "all experts", _MOST_EXPERTS_OF_ALL_LAYERS, path)
        columns = raw.moe_intermediate_size or raw.intermediate_size
        return {
            "num_experts": count,
            "expert_columns": within(columns, "moe_intermediate_size", _MOST_COLUMNS, path),
            "dense_layers": _dense_layers(raw, path),
            "routing": self.routing(raw, count, path),
        }

    def routing(self, raw: Any, count: int, path: Path) -> Routing:  # noqa: ANN401
        """By which a token has some of `count` experts."""
        top_k = within(raw.num_experts_per_tok, "num_experts_per_tok", count, path)
        return Routing(top_k, raw.norm_topk_prob)

    def layer(self, config: LlamaConfig, number: int) -> LlamaLayer:
        layer = super().layer(config, number)
        if number in config.dense_layers:
            return layer
        experts = self.experts(config, f"{self.prefix}layers.{number}.{self.block}")
        return msgspec.structs.replace(layer, mlp=experts)

    def experts(self, config: LlamaConfig, prefix: str) -> ExpertTensors:
        columns = (config.expert_columns, config.hidden_size)
        return ExpertTensors(
            projection(prefix + "gate", (config.num_experts, config.hidden_size)),
            tuple(
                mlp_tensors(f"{prefix}experts.{number}.", columns, None, names=self.names)
                for number in range(config.num_experts)
            ),
        )

    def read_bytes(self, config: LlamaConfig, weights: WeightBytes) -> list[int]:
        assert config.routing is not None, "these families have experts"
        idle = config.num_experts - config.routing.top_k
        return [
            sum(map(weights.of, specs_of(_without(layer, idle))))
            for layer in self.tensors(config).layers
        ]

    def example_config(self, size: Size) -> dict[str, Any]:
        return super().example_config(size) | {
            "num_experts": size.experts,
            "num_experts_per_tok": size.experts_per_token,
            "moe_intermediate_size": size.expert_columns,
        }


class _Mixtral(MoeFamily):
    """Its experts are as wide as an MLP would be, and their factors always add up to 1."""

    def own_fields(self, raw: RawExperts, path: Path) -> dict[str, Any]:
        fixed = {"moe_intermediate_size": None, "norm_topk_prob": True}
        return super().own_fields(msgspec.structs.replace(raw, **fixed), path)

    def example_config(self, size: Size) -> dict[str, Any]:
        example = super().example_config(size) | {"intermediate_size": size.expert_columns}
        return example | {"num_local_experts": example.pop("num_experts")}


class _RawOlmoe(RawExperts, frozen=True, kw_only=True):
    clip_qkv: float | None = None


class _Olmoe(MoeFamily):
    """Its experts are as wide as an MLP would be; all heads of queries are one row of a norm."""

    raw = _RawOlmoe

    def own_fields(self, raw: _RawOlmoe, path: Path) -> dict[str, Any]:
        if raw.clip_qkv is not None:
            raise CheckpointError(
                f"{path}: clip_qkv is {raw.clip_qkv}; expected none: these layers don't clip"
            )
        own = super().own_fields(msgspec.structs.replace(raw, moe_intermediate_size=None), path)
        return own | {"norm_over_heads": True}

    def example_config(self, size: Size) -> dict[str, Any]:
        return super().example_config(size) | {"intermediate_size": size.expert_columns}


class _Qwen2Moe(MoeFamily):
    """It has an expert for all tokens, and windows in every other of the first layers."""

    raw = _RawQwen2Moe

    def own_fields(self, raw: _RawQwen2Moe, path: Path) -> dict[str, Any]:
        name, stated = "shared_expert_intermediate_size", raw.shared_expert_intermediate_size
        shared = within(stated, name, _MOST_COLUMNS, path)
        return super().own_fields(raw, path) | {"shared_columns": shared}

    def experts(self, config: LlamaConfig, prefix: str) -> ExpertTensors:
        columns = (config.shared_columns, config.hidden_size)
        by_column = Division(Axis.SHARED_COLUMNS)
        return msgspec.structs.replace(
            super().experts(config, prefix),
            shared=mlp_tensors(prefix + "shared_expert.", columns, by_column),
            shared_gate=TensorSpec(prefix + "shared_expert_gate.weight", (1, config.hidden_size)),
        )

    def windows(self, raw: RawLlama, path: Path) -> tuple[int | None, ...]:
        first = raw.max_window_layers or 0
        kinds = [
            SLIDING if number % 2 == 0 and number < first else FULL
            for number in range(raw.num_hidden_layers)
        ]
        layer_types = kinds if raw.layer_types is None else raw.layer_types
        return super().windows(msgspec.structs.replace(raw, layer_types=layer_types), path)

    def example_config(self, size: Size) -> dict[str, Any]:
        return super().example_config(size) | {"shared_expert_intermediate_size": size.intermediate}


class _Qwen3Moe(MoeFamily):
    """If it has windows then in all layers."""

    def windows(self, raw: RawLlama, path: Path) -> tuple[int | None, ...]:
        everywhere = msgspec.structs.replace(raw, layer_types=None, max_window_layers=0)
        return super().windows(everywhere, path)


def _without(layer: LlamaLayer, left_out: int) -> LlamaLayer:
    """The layer without so many of its experts, if it has some."""
    if not isinstance(layer.mlp, ExpertTensors):
        return layer
    chosen = msgspec.structs.replace(layer.mlp, experts=layer.mlp.experts[left_out:])
    return msgspec.structs.replace(layer, mlp=chosen)


def within(number: int, name: str, most: int, path: Path) -> int:
    """Raises CheckpointError for a size that is below 1 or above `most`."""
    if not 1 <= number <= most:
        shown = number if abs(number) < 10**15 else "out of all bounds"
        raise CheckpointError(f"{path}: {name} is {shown}; expected 1 to {most}")
    return number


def _dense_layers(raw: RawExperts, path: Path) -> tuple[int, ...]:
    step = within(raw.decoder_sparse_step, "decoder_sparse_step", 2**31, path)
    named = raw.mlp_only_layers or ()
    layers = range(raw.num_hidden_layers)
    return tuple(number for number in layers if number in named or (number + 1) % step)


_QWEN = {
    "vocab_size": 151936,
    "num_hidden_layers": 24,
    "hidden_size": 2048,
    "max_position_embeddings": 32768,
    "sliding_window": 4096,
    "norm_topk_prob": False,
}

FAMILIES = {
    "MixtralForCausalLM": _Mixtral(
        name="mixtral",
        default_experts=8,
        block="block_sparse_moe.",
        names=("w1", "w3", "w2"),
        defaults={
            "intermediate_size": 14336,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131072,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1e6,
            "num_experts_per_tok": 2,
        },
        default_eos=2,
        qkv_bias=False,
        output_bias=False,
        always_windowed=True,
    ),
    "OlmoeForCausalLM": _Olmoe(
        name="olmoe",
        default_experts=64,
        defaults={
            "vocab_size": 50304,
            "hidden_size": 2048,
            "intermediate_size": 2048,
            "num_hidden_layers": 16,
            "num_attention_heads": 16,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "num_experts_per_tok": 8,
            "norm_topk_prob": False,
        },
        default_eos=50279,
        qk_norm=True,
    ),
    "Qwen2MoeForCausalLM": _Qwen2Moe(
        name="qwen2_moe",
        default_experts=60,
        defaults=_QWEN
        | {
            "intermediate_size": 5632,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "max_window_layers": 28,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632,
        },
        output_bias=False,
    ),
    "Qwen3MoeForCausalLM": _Qwen3Moe(
        name="qwen3_moe",
        default_experts=128,
        defaults=_QWEN
        | {
            "intermediate_size": 6144,
            "num_key_value_heads": 4,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
        },
        qk_norm=True,
    ),
}
