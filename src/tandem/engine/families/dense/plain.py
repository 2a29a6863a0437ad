"""Families whose MLP has no gate: StarCoder2, Nemotron and Minitron, Arcee's AFM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tandem.engine.families.family import Size
from tandem.engine.families.llama import LlamaConfig, LlamaFamily, LlamaLayer, RawLlama
from tandem.engine.families.mlp import plain_tensors


@dataclass(frozen=True, kw_only=True)
class PlainFamily(LlamaFamily):
    """`names` are what files call the two maps; `fixed` are fields of every model's config."""

    names: tuple[str, str] = ("up_proj", "down_proj")
    fixed: Mapping[str, Any] = field(default_factory=dict)

    def own_fields(self, raw: Any, path: Path) -> dict[str, Any]:  # noqa: ANN401, ARG002
        return dict(self.fixed)

    def layer(self, config: LlamaConfig, number: int) -> LlamaLayer:
        prefix = f"{self.prefix}layers.{number}.mlp."
        columns = (config.intermediate_size, config.hidden_size)
        mlp = plain_tensors(prefix, columns, bias=config.mlp_bias, names=self.names)
        return msgspec.structs.replace(super().layer(config, number), mlp=mlp)

    def example_config(self, size: Size) -> dict[str, Any]:
        return super().example_config(size) | {"hidden_act": "relu2"}


class _RawStarcoder2(RawLlama, frozen=True, kw_only=True):
    norm_epsilon: float = 1e-5
    use_bias: bool = True


class Starcoder2Family(PlainFamily):
    raw: ClassVar[type[RawLlama]] = _RawStarcoder2
    eps_field: ClassVar[str] = "norm_epsilon"

    def own_fields(self, raw: _RawStarcoder2, path: Path) -> dict[str, Any]:
        biases = dict.fromkeys(("qkv_bias", "output_bias", "mlp_bias"), raw.use_bias)
        return super().own_fields(raw, path) | biases

    def example_config(self, size: Size) -> dict[str, Any]:
        return super().example_config(size) | {"hidden_act": "gelu_pytorch_tanh", "use_bias": True}


class _RawNemotron(RawLlama, frozen=True, kw_only=True):
    norm_eps: float = 1e-5


class NemotronFamily(PlainFamily):
    raw: ClassVar[type[RawLlama]] = _RawNemotron
    eps_field: ClassVar[str] = "norm_eps"


FAMILIES = {
    "Starcoder2ForCausalLM": Starcoder2Family(
        name="starcoder2",
        names=("c_fc", "c_proj"),
        fixed={"layer_norms": True, "norm_bias": True},
        defaults={
            "vocab_size": 49_152,
            "hidden_size": 3072,
            "intermediate_size": 12_288,
            "num_hidden_layers": 30,
            "num_attention_heads": 24,
            "num_key_value_heads": 2,
            "hidden_act": "gelu_pytorch_tanh",
            "max_position_embeddings": 4096,
            "tie_word_embeddings": True,
        },
        default_eos=50_256,
        always_windowed=True,
    ),
    "NemotronForCausalLM": NemotronFamily(
        name="nemotron",
        fixed={"layer_norms": True, "norm_bias": True, "norm_offset": 1.0},
        defaults={
            "vocab_size": 256_000,
            "hidden_size": 6144,
            "intermediate_size": 24_576,
            "num_attention_heads": 48,
            "hidden_act": "relu2",
            "max_position_embeddings": 4096,
            "partial_rotary_factor": 0.5,
        },
        default_eos=3,
        mlp_bias=None,
        usually_tied=False,
    ),
    "ArceeForCausalLM": PlainFamily(
        name="arcee",
        defaults={
            "hidden_size": 2560,
            "intermediate_size": 18_432,
            "hidden_act": "relu2",
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
        },
        default_eos=128_001,
        mlp_bias=None,
        usually_tied=False,
    ),
}
