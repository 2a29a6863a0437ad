"""OLMo 2 and 3: norms behind layers alone, and one over all heads of queries, one of keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tandem.engine.families.llama import LlamaFamily, RawLlama
from tandem.engine.families.rope import Rope, by_kind, read_ropes

_NORMS = {
    "attended_norm": "post_attention_layernorm",
    "mlp_out_norm": "post_feedforward_layernorm",
}


class OlmoFamily(LlamaFamily):
    def own_fields(self, raw: RawLlama, path: Path) -> dict[str, Any]:  # noqa: ARG002
        return {"norm_over_heads": True}


class Olmo3Family(OlmoFamily):
    """Windows on three layers of four; the others' rotation is scaled."""

    def ropes(
        self, raw: RawLlama, head_dim: int, kinds: Sequence[str], path: Path
    ) -> tuple[Rope | None, ...]:
        theta = raw.rope_theta or 5e5
        return read_ropes(by_kind(raw, theta, theta), head_dim, kinds, path)


_OLMO = {
    "vocab_size": 50304,
    "intermediate_size": 11008,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5,
}
FAMILIES = {
    "Olmo2ForCausalLM": OlmoFamily(
        name="olmo2",
        norms=_NORMS,
        defaults=_OLMO,
        default_eos=50279,
        qk_norm=True,
        usually_tied=False,
    ),
    "Olmo3ForCausalLM": Olmo3Family(
        name="olmo3",
        norms=_NORMS,
        defaults={**_OLMO, "sliding_window": 4096},
        default_eos=50279,
        qk_norm=True,
        always_windowed=True,
        full_every=4,
        usually_tied=False,
    ),
}
