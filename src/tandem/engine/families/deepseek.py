"""DeepSeek V2 and V3, also R1 and Kimi K2, and what shares their experts: GLM-4.5."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tandem.engine.checkpoint.config import Latent
from tandem.engine.checkpoint.layout import Axis, Division, TensorSpec
from tandem.engine.families.family import Size
from tandem.engine.families.latent import latent_tensors
from tandem.engine.families.llama import LlamaConfig, LlamaLayer, RawLlama, positive
from tandem.engine.families.mlp import ExpertGroups, ExpertTensors, Routing, mlp_tensors
from tandem.engine.families.moe import MoeFamily, RawExperts, within
from tandem.engine.families.rope import Rope, mean_scale, read_ropes
from tandem.errors import CheckpointError

_MOST_SHARED, _MOST_DENSE_LAYERS, _MOST_GUESSING_LAYERS, _WIDEST = 2**10, 2**10, 2**6, 2**16


class _RawDeepseekMoe(RawExperts, frozen=True, kw_only=True):
    n_routed_experts: int
    n_shared_experts: int
    moe_intermediate_size: int
    first_k_dense_replace: int
    moe_layer_freq: int = 1
    n_group: int | None = None
    topk_group: int | None = None
    topk_method: str | None = None
    scoring_func: str | None = None
    routed_scaling_factor: float = 1.0
    num_nextn_predict_layers: int = 0
    use_qk_norm: bool = False


class _RawDeepseek(_RawDeepseekMoe, frozen=True, kw_only=True):
    kv_lora_rank: int
    q_lora_rank: int | None
    qk_nope_head_dim: int
    qk_rope_head_dim: int
    v_head_dim: int
    rope_interleave: bool = True


@dataclass(frozen=True, kw_only=True)
class DeepseekMoeFamily(MoeFamily):
    """The first layers have an MLP, all others experts, and one that is for all tokens.

    Scores are a softmax where a file has no `corrected` ones: sigmoids with a correction.
    """

    raw: ClassVar[type[RawExperts]] = _RawDeepseekMoe

    corrected: bool = True

    def own_fields(self, raw: Any, path: Path) -> dict[str, Any]:  # noqa: ANN401
        dense = raw.first_k_dense_replace
        if dense and within(dense, "first_k_dense_replace", _MOST_DENSE_LAYERS, path):
            raw = msgspec.structs.replace(raw, mlp_only_layers=list(range(dense)))
        if raw.moe_layer_freq != 1:
            raise _refused(path, "moe_layer_freq", raw.moe_layer_freq, "1")
        raw = msgspec.structs.replace(raw, num_local_experts=raw.n_routed_experts)
        shared = within(raw.n_shared_experts, "n_shared_experts", _MOST_SHARED, path)
        guessing = raw.num_nextn_predict_layers
        return super().own_fields(raw, path) | {
            "shared_columns": shared * raw.moe_intermediate_size,
            "guessing_layers": guessing
            and within(guessing, "num_nextn_predict_layers", _MOST_GUESSING_LAYERS, path),
            "qk_norm": raw.use_qk_norm,
        }

    def windows(self, raw: RawLlama, path: Path) -> tuple[int | None, ...]:  # noqa: ARG002
        """None, whatever a config says."""
        return (None,) * raw.num_hidden_layers

    def routing(self, raw: Any, count: int, path: Path) -> Routing:  # noqa: ANN401
        scores = "sigmoid" if self.corrected else "softmax"
        if raw.scoring_func not in (None, scores):
            raise _refused(path, "scoring_func", raw.scoring_func, repr(scores))
        groups = _groups(raw, count, self.corrected, path)
        own = super().routing(raw, count if groups is None else _within_reach(groups, count), path)
        scale = positive("routed_scaling_factor", raw.routed_scaling_factor, path)
        return msgspec.structs.replace(own, sigmoid=self.corrected, groups=groups, scale=scale)

    def experts(self, config: LlamaConfig, prefix: str) -> ExpertTensors:
        columns, by_column = (config.shared_columns, config.hidden_size), Axis.SHARED_COLUMNS
        shared = mlp_tensors(
            prefix + "shared_experts.", columns, Division(by_column), bias=config.mlp_bias
        )
        correction = TensorSpec(prefix + "gate.e_score_correction_bias", (config.num_experts,))
        return msgspec.structs.replace(
            super().experts(config, prefix),
            shared=shared,
            correction=correction if self.corrected else None,
        )

    def example_config(self, size: Size) -> dict[str, Any]:
        example = super().example_config(size)
        return example | {
            "n_routed_experts": example.pop("num_experts"),
            "n_shared_experts": 2,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "routed_scaling_factor": 1.5,
            "num_nextn_predict_layers": 0,
        }


class DeepseekFamily(DeepseekMoeFamily):
    """With latent attention."""

    raw = _RawDeepseek

    def stated(self, directory: Path) -> Any:  # noqa: ANN401
        """A head is what its queries are wide; those that ranks share are those of queries."""
        raw = super().stated(directory)
        head_dim = raw.qk_nope_head_dim + raw.qk_rope_head_dim
        return msgspec.structs.replace(raw, head_dim=head_dim, num_key_value_heads=None)

    def ropes(
        self,
        raw: Any,  # noqa: ANN401
        head_dim: int,  # noqa: ARG002 - of which the last ones rotate
        kinds: Sequence[str],
        path: Path,
    ) -> tuple[Rope | None, ...]:
        rotated = within(raw.qk_rope_head_dim, "qk_rope_head_dim", _WIDEST, path)
        if rotated % 2:
            raise _refused(path, "qk_rope_head_dim", rotated, "an even number")
        whole = msgspec.structs.replace(raw, partial_rotary_factor=None)
        return read_ropes(whole, rotated, kinds, path)

    def own_fields(self, raw: Any, path: Path) -> dict[str, Any]:  # noqa: ANN401
        def width(name: str) -> int:
            return within(getattr(raw, name), name, _WIDEST, path)

        latent = Latent(
            rank=width("kv_lora_rank"),
            rotated=width("qk_rope_head_dim"),
            plain=width("qk_nope_head_dim"),
            values=width("v_head_dim"),
            query_rank=None if raw.q_lora_rank is None else width("q_lora_rank"),
            pairs=raw.rope_interleave,
        )
        scale = mean_scale(raw, path) ** 2 / (latent.plain + latent.rotated) ** 0.5
        return super().own_fields(raw, path) | {"latent": latent, "attention_scale": scale}

    def layer(self, config: LlamaConfig, number: int) -> LlamaLayer:
        assert config.latent is not None, "these families have latents"
        attention = latent_tensors(
            f"{self.prefix}layers.{number}.self_attn.",
            config.latent,
            config.num_heads,
            config.hidden_size,
            bias=config.output_bias,
        )
        return msgspec.structs.replace(super().layer(config, number), attention=attention)

    def example_config(self, size: Size) -> dict[str, Any]:
        rotated = size.head_dim // 4 * 2
        return super().example_config(size) | {
            "num_key_value_heads": size.heads,
            "head_dim": rotated,
            "kv_lora_rank": size.hidden // 2,
            "q_lora_rank": size.hidden // 4 * 3,
            "qk_nope_head_dim": size.head_dim,
            "qk_rope_head_dim": rotated,
            "v_head_dim": size.head_dim,
        }


def _groups(raw: Any, count: int, corrected: bool, path: Path) -> ExpertGroups | None:  # noqa: ANN401
    limited = "noaux_tc" if corrected else "group_limited_greedy"
    known = (limited,) if corrected else (limited, "greedy")
    if raw.topk_method not in (None, *known):
        raise _refused(path, "topk_method", raw.topk_method, f"one of {known}")
    if not corrected and raw.topk_method != limited:
        return None
    groups = within(raw.n_group or 0, "n_group", count, path)
    chosen = within(raw.topk_group or 0, "topk_group", groups, path)
    best = 2 if corrected else 1
    if count % groups or count // groups < best:
        raise _refused(path, "n_group", groups, f"a divisor of {count} experts, {best} a group")
    return None if groups == chosen else ExpertGroups(groups, chosen, best)


def _within_reach(groups: ExpertGroups, count: int) -> int:
    return count // groups.count * groups.chosen


def _refused(path: Path, name: str, value: object, expected: str) -> CheckpointError:
    return CheckpointError(f"{path}: {name} is {value!r}; expected {expected}")


_V3 = {
    "vocab_size": 129280,
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "n_group": 8,
    "topk_group": 4,
    "routed_scaling_factor": 2.5,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "max_position_embeddings": 4096,
    "num_nextn_predict_layers": 1,
}


class _DeepseekV2(DeepseekFamily):
    def own_fields(self, raw: Any, path: Path) -> dict[str, Any]:  # noqa: ANN401
        if raw.norm_topk_prob:
            raise _refused(path, "norm_topk_prob", value=True, expected="false")
        return super().own_fields(raw, path)

    def example_config(self, size: Size) -> dict[str, Any]:
        return super().example_config(size) | {"norm_topk_prob": False}


FAMILIES = {
    "DeepseekV2ForCausalLM": _DeepseekV2(
        name="deepseek_v2",
        default_experts=64,
        corrected=False,
        mlp_bias=None,
        defaults={
            "vocab_size": 102400,
            "intermediate_size": 11008,
            "moe_intermediate_size": 1407,
            "n_routed_experts": 64,
            "n_shared_experts": 2,
            "first_k_dense_replace": 0,
            "norm_topk_prob": False,
            "kv_lora_rank": 512,
            "q_lora_rank": 1536,
            "qk_nope_head_dim": 128,
            "qk_rope_head_dim": 64,
            "v_head_dim": 128,
            "max_position_embeddings": 2048,
        },
        default_eos=2,
    ),
    "DeepseekV3ForCausalLM": DeepseekFamily(
        name="deepseek_v3", default_experts=256, defaults=_V3, default_eos=1
    ),
    "Glm4MoeForCausalLM": DeepseekMoeFamily(
        name="glm4_moe",
        default_experts=128,
        output_bias=False,
        defaults={
            "vocab_size": 151552,
            "hidden_size": 4096,
            "intermediate_size": 10944,
            "moe_intermediate_size": 1408,
            "num_hidden_layers": 46,
            "num_attention_heads": 96,
            "num_key_value_heads": 8,
            "n_routed_experts": 128,
            "n_shared_experts": 1,
            "num_experts_per_tok": 8,
            "first_k_dense_replace": 1,
            "n_group": 1,
            "topk_group": 1,
            "partial_rotary_factor": 0.5,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": 131072,
            "num_nextn_predict_layers": 1,
        },
    ),
}
