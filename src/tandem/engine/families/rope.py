"""Rotary position embedding as configs state it: its scaling, by one of several rules."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec

from tandem.errors import CheckpointError

#: The rules that are known, each with the numbers that it needs.
_NEEDED = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
}


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
    factor: float | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    original_max_position_embeddings: int | None = None


def rope_scaling(rope: RawRope, context_length: int, path: Path) -> RopeScaling:
    """Raises CheckpointError, naming the file, for a rule that isn't known or isn't complete."""
    rope_type = rope.rope_type or rope.type or "default"
    if rope_type not in _NEEDED:
        raise CheckpointError(
            f"{path}: rope_type {rope_type!r} is not supported; expected one of {tuple(_NEEDED)}"
        )
    numbers = {name: getattr(rope, name) for name in _NEEDED[rope_type]}
    numbers.setdefault("factor", 1.0)
    for name, number in numbers.items():
        if number is None or not 0 < number < math.inf:
            raise CheckpointError(f"{path}: {name} is {number}; rope_type {rope_type!r} needs one")
    original = rope.original_max_position_embeddings or context_length
    return RopeScaling(rope_type=rope_type, original_max_position_embeddings=original, **numbers)
