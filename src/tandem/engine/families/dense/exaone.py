"""EXAONE 4: norms behind layers alone; where layers have a window, the others don't rotate."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tandem.engine.families.llama import LlamaFamily, RawLlama
from tandem.engine.families.rope import FULL, SLIDING, Rope


class Exaone4Family(LlamaFamily):
    """A pattern may be spelt: `LLLG` has the fourth layer of four see everything."""

    def stated(self, directory: Path) -> RawLlama:
        raw: RawLlama = super().stated(directory)
        pattern, layers = raw.sliding_window_pattern, range(raw.num_hidden_layers)
        if raw.layer_types is not None or not isinstance(pattern, str) or not pattern:
            return raw
        letters = itertools.cycle(pattern)
        kinds = [SLIDING if next(letters) == "L" else FULL for _ in layers]
        return msgspec.structs.replace(raw, layer_types=kinds)

    def ropes(
        self, raw: RawLlama, head_dim: int, kinds: Sequence[str], path: Path
    ) -> tuple[Rope | None, ...]:
        ropes = super().ropes(raw, head_dim, kinds, path)
        if raw.sliding_window is None:
            return ropes
        return tuple(
            rope if kind == SLIDING else None for rope, kind in zip(ropes, kinds, strict=True)
        )


FAMILIES = {
    "Exaone4ForCausalLM": Exaone4Family(
        name="exaone4",
        norms={
            "attended_norm": "post_attention_layernorm",
            "mlp_out_norm": "post_feedforward_layernorm",
        },
        defaults={
            "vocab_size": 102_400,
            "intermediate_size": 16_384,
            "num_key_value_heads": 32,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
            "sliding_window": 4096,
        },
        default_eos=2,
        qkv_bias=False,
        output_bias=False,
        qk_norm=True,
        always_windowed=True,
        full_every=4,
        usually_tied=False,
    )
}
