"""gpt-oss: experts with biases and clamped gates, sinks, and a window in every other layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tandem.engine.checkpoint.layout import (
    Axis,
    Division,
    Place,
    Projection,
    TensorSpec,
    projection,
)
from tandem.engine.families.family import Size
from tandem.engine.families.llama import (
    AttentionTensors,
    LlamaConfig,
    positive,
)
from tandem.engine.families.mlp import ExpertTensors, GateClamp, MLPTensors
from tandem.engine.families.moe import MoeFamily, RawExperts
from tandem.engine.families.rope import RawRope

#: What stretches the context where a config does not say.
_ROPE = RawRope(
    rope_type="yarn",
    factor=32.0,
    beta_fast=32.0,
    beta_slow=1.0,
    truncate=False,
    original_max_position_embeddings=4096,
)


class GptOssConfig(LlamaConfig, frozen=True, kw_only=True):
    """With `transposed` experts a file has (experts, inputs, outputs), otherwise outputs first."""

    transposed: bool


class _RawGptOss(RawExperts, frozen=True, kw_only=True):
    swiglu_alpha: float = 1.702
    swiglu_limit: float = 7.0
    quantization_config: dict[str, Any] | None = None
    quantization: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class GptOssFamily(MoeFamily):
    """Files have one tensor of all experts, in which rows of gate and up alternate."""

    raw: ClassVar[type[RawExperts]] = _RawGptOss
    config: ClassVar[type[LlamaConfig]] = GptOssConfig

    def stated(self, directory: Path) -> Any:  # noqa: ANN401
        raw = super().stated(directory)
        if raw.rope_scaling is None and raw.rope_parameters is None:
            return msgspec.structs.replace(raw, rope_scaling=_ROPE)
        return raw

    def own_fields(self, raw: Any, path: Path) -> dict[str, Any]:  # noqa: ANN401
        fixed = {"moe_intermediate_size": None, "norm_topk_prob": True}
        own = super().own_fields(msgspec.structs.replace(raw, **fixed), path)
        return own | {
            "gate_clamp": GateClamp(
                positive("swiglu_limit", raw.swiglu_limit, path),
                positive("swiglu_alpha", raw.swiglu_alpha, path),
            ),
            "transposed": raw.quantization_config is None and raw.quantization is None,
        }

    def attention(self, config: LlamaConfig, prefix: str) -> AttentionTensors:
        by_query = Division(Axis.KV_HEADS, config.num_heads // config.num_kv_heads)
        sinks = TensorSpec(prefix + "sinks", (config.num_heads,), rows=by_query)
        return msgspec.structs.replace(super().attention(config, prefix), sinks=sinks)

    def experts(self, config: LlamaConfig, prefix: str) -> ExpertTensors:
        assert isinstance(config, GptOssConfig)
        router = (config.num_experts, config.hidden_size)
        return ExpertTensors(
            projection(prefix + "router", router, bias=True),
            tuple(
                _expert(config, prefix + "experts.", number) for number in range(config.num_experts)
            ),
        )

    def example_config(self, size: Size) -> dict[str, Any]:
        example = super().example_config(size)
        return example | {
            "intermediate_size": size.expert_columns,
            "num_local_experts": example.pop("num_experts"),
            "sliding_window": size.context // 4,
            "attention_bias": True,
        }


def _expert(config: GptOssConfig, prefix: str, number: int) -> MLPTensors:
    hidden, columns = config.hidden_size, config.expert_columns

    def part(name: str, rows: int, inputs: int, first: int, every: int) -> Projection:
        def place(*shape: int, transposed: bool = False) -> Place:
            return Place((config.num_experts, *shape), first, every, number, transposed)

        stored = (inputs, rows * every) if config.transposed else (rows * every, inputs)
        weight = place(*stored, transposed=config.transposed)
        return Projection(
            TensorSpec(prefix + name, (rows, inputs), place=weight),
            TensorSpec(f"{prefix}{name}_bias", (rows,), place=place(rows * every)),
        )

    return MLPTensors(
        gate=part("gate_up_proj", columns, hidden, 0, 2),
        up=part("gate_up_proj", columns, hidden, 1, 2),
        down=part("down_proj", hidden, columns, 0, 1),
    )


FAMILIES = {
    "GptOssForCausalLM": GptOssFamily(
        name="gpt_oss",
        default_experts=128,
        defaults={
            "vocab_size": 201088,
            "num_hidden_layers": 36,
            "hidden_size": 2880,
            "intermediate_size": 2880,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 64,
            "max_position_embeddings": 131072,
            "sliding_window": 128,
            "rms_norm_eps": 1e-5,
            "rope_theta": 150000.0,
            "attention_bias": True,
            "num_experts_per_tok": 4,
        },
        always_windowed=True,
        full_every=2,
    ),
}
