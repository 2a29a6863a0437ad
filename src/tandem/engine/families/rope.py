"""Rotary position embedding as configs state it: its scaling, by one of several rules."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tandem.errors import CheckpointError

_ROPE_TYPES = ("default", "linear", "llama3")


class RopeScaling(msgspec.Struct, frozen=True):
    """A config's rotary scaling; `rope_type` is `default`, `linear` or `llama3`."""

    rope_type: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


class RawRope(msgspec.Struct, frozen=True):
    """`rope_scaling` or `rope_parameters` of a `config.json`."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: float | None = None
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int | None = None


def rope_scaling(rope: RawRope, context_length: int, path: Path) -> RopeScaling:
    """Raises CheckpointError, naming the file, for a rule that isn't known."""
    rope_type = rope.rope_type or rope.type or "default"
    if rope_type not in _ROPE_TYPES:
        raise CheckpointError(
            f"{path}: rope_type {rope_type!r} is not supported; expected one of {_ROPE_TYPES}"
        )
    return RopeScaling(
        rope_type=rope_type,
        factor=rope.factor,
        low_freq_factor=rope.low_freq_factor,
        high_freq_factor=rope.high_freq_factor,
        original_max_position_embeddings=rope.original_max_position_embeddings or context_length,
    )
