"""SmolLM 3: Llama, but for layers that don't rotate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tandem.engine.checkpoint.config import CONFIG_FILE
from tandem.engine.families.family import Size
from tandem.engine.families.llama import LlamaFamily, RawLlama
from tandem.engine.families.rope import FULL, SLIDING, Rope
from tandem.errors import CheckpointError


class _RawSmolLM3(RawLlama, frozen=True, kw_only=True):
    no_rope_layers: list[int] | None = None
    no_rope_layer_interval: int = 4


class SmolLM3Family(LlamaFamily):
    """`no_rope_layers` has 1 for a layer that rotates; others have the window, if one is used."""

    raw: ClassVar[type[RawLlama]] = _RawSmolLM3

    def stated(self, directory: Path) -> _RawSmolLM3:
        raw = super().stated(directory)
        assert isinstance(raw, _RawSmolLM3)
        rotates = _rotates(raw, directory / CONFIG_FILE)
        kinds = raw.layer_types or [FULL if one else SLIDING for one in rotates]
        return msgspec.structs.replace(raw, no_rope_layers=rotates, layer_types=kinds)

    def ropes(
        self, raw: _RawSmolLM3, head_dim: int, kinds: Sequence[str], path: Path
    ) -> tuple[Rope | None, ...]:
        ropes = super().ropes(raw, head_dim, kinds, path)
        rotates = raw.no_rope_layers or ()
        return tuple(rope if one else None for rope, one in zip(ropes, rotates, strict=True))

    def example_config(self, size: Size) -> dict[str, Any]:
        return super().example_config(size) | {"rope_theta": 5e6, "no_rope_layer_interval": 4}


def _rotates(raw: _RawSmolLM3, path: Path) -> list[int]:
    """For each layer, 0 if it doesn't."""
    layers, interval, stated = raw.num_hidden_layers, raw.no_rope_layer_interval, raw.no_rope_layers
    if stated is None:
        if interval < 1:
            raise CheckpointError(
                f"{path}: no_rope_layer_interval is {interval}; expected at least 1"
            )
        return [int(layer % interval != 0) for layer in range(1, layers + 1)]
    if len(stated) < layers:
        raise CheckpointError(
            f"{path}: no_rope_layers has {len(stated)} entries; expected {layers}"
        )
    return stated[:layers]


FAMILIES = {
    "SmolLM3ForCausalLM": SmolLM3Family(
        name="smollm3",
        defaults={
            "vocab_size": 128_256,
            "hidden_size": 2048,
            "intermediate_size": 11008,
            "num_hidden_layers": 36,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "max_position_embeddings": 32768,
            "rope_theta": 2e6,
            "tie_word_embeddings": True,
        },
        default_eos=128_001,
        mlp_bias=None,
    ),
}
