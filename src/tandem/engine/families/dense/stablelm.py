"""StableLM: Llama with LayerNorm, and a part of each head rotated."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from tandem.engine.families.family import Size
from tandem.engine.families.llama import LlamaFamily, RawLlama
from tandem.errors import CheckpointError


class _RawStableLm(RawLlama, frozen=True, kw_only=True):
    layer_norm_eps: float = 1e-5
    use_qkv_bias: bool = False
    qk_layernorm: bool = False
    use_parallel_residual: bool = False


class StableLmFamily(LlamaFamily):
    raw: ClassVar[type[RawLlama]] = _RawStableLm
    eps_field: ClassVar[str] = "layer_norm_eps"

    def own_fields(self, raw: _RawStableLm, path: Path) -> dict[str, Any]:
        for name in ("qk_layernorm", "use_parallel_residual"):
            if getattr(raw, name):
                raise CheckpointError(f"{path}: {name} is not supported; expected false")
        return {"layer_norms": True, "norm_bias": True, "qkv_bias": raw.use_qkv_bias}

    def example_config(self, size: Size) -> dict[str, Any]:
        return super().example_config(size) | {"partial_rotary_factor": 0.25}


FAMILIES = {
    "StableLmForCausalLM": StableLmFamily(
        name="stablelm",
        defaults={
            "vocab_size": 50_304,
            "hidden_size": 2560,
            "intermediate_size": 6912,
            "num_key_value_heads": 32,
            "max_position_embeddings": 4096,
            "partial_rotary_factor": 0.25,
        },
        default_eos=0,
        output_bias=False,
        usually_tied=False,
    )
}
