"""Rotary position embedding as configs state it: what of a head is rotated, and how fast.

Both spellings are read: `rope_scaling` beside `rope_theta`, and `rope_parameters` with all of it,
which may say it of each kind of layer by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from tandem.engine.checkpoint.config import RawConfig
from tandem.errors import CheckpointError

FULL, SLIDING = "full_attention", "sliding_attention"
_THETA = 10000.0
_MOST_POSITIONS = 2**31


class Linear(msgspec.Struct, frozen=True):
    """All frequencies divided by `factor`."""

    factor: float


class Llama3(msgspec.Struct, frozen=True):
    """Low frequencies are divided by `factor`, high ones kept, those between interpolated."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int


class Yarn(msgspec.Struct, frozen=True):
    """The same between `beta_slow` and `beta_fast` turns within the original context."""

    factor: float
    beta_fast: float
    beta_slow: float
    original_context: int
    truncate: bool
    attention_factor: float


class LongRope(msgspec.Struct, frozen=True):
    """Each frequency divided by its own factor, another one where contexts may be longer."""

    short_factors: tuple[float, ...]
    long_factors: tuple[float, ...]
    original_context: int
    attention_factor: float


Scaling = Linear | Llama3 | Yarn | LongRope


class Growth(msgspec.Struct, frozen=True):
    """Queries at a position p are multiplied by 1 + beta * log(1 + p // original_context)."""

    beta: float
    original_context: int


class Rope(msgspec.Struct, frozen=True):
    """The first `dim` numbers of each head are rotated, at powers of `theta` that are scaled."""

    theta: float
    dim: int
    scaling: Scaling | None = None
    growth: Growth | None = None

    @property
    def attention_factor(self) -> float:
        """What the rotated numbers are multiplied by, queries and keys alike."""
        return self.scaling.attention_factor if isinstance(self.scaling, Yarn | LongRope) else 1.0


class RawRope(msgspec.Struct, frozen=True, kw_only=True):
    """`rope_scaling` or `rope_parameters` of a `config.json`."""

    rope_type: str | None = None
    type: str | None = None
    rope_theta: float | None = None
    partial_rotary_factor: float | None = None
    factor: float | None = None
    original_max_position_embeddings: int | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None
    attention_factor: float | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None
    truncate: bool | None = None
    llama_4_scaling_beta: float | None = None
    alpha: float | None = None
    short_factor: tuple[float, ...] | None = None
    long_factor: tuple[float, ...] | None = None
    full_attention: RawRope | None = None
    sliding_attention: RawRope | None = None


class RawRotary(RawConfig, frozen=True, kw_only=True):
    """A `config.json` that says how to rotate."""

    rope_theta: float | None = None
    rope_scaling: RawRope | None = None
    rope_parameters: RawRope | None = None
    partial_rotary_factor: float | None = None
    original_max_position_embeddings: int | None = None


Rotating = TypeVar("Rotating", bound=RawRotary)


def read_ropes(
    raw: RawRotary, head_dim: int, kinds: Sequence[str], path: Path
) -> tuple[Rope | None, ...]:
    """How layers of these kinds, `FULL` or `SLIDING`, rotate; None: they don't.

    Raises CheckpointError, naming file and field, for a rule that isn't known or isn't complete.
    """
    stated = _stated(raw)
    own = {FULL: stated.full_attention, SLIDING: stated.sliding_attention}
    if not any(own.values()):
        return (_read(stated, raw, head_dim, path),) * len(kinds)
    ropes = {
        kind: None if part is None else _read(part, raw, head_dim, path)
        for kind, part in own.items()
    }
    return tuple(ropes[kind] for kind in kinds)


def _stated(raw: RawRotary) -> RawRope:
    empty = RawRope()
    spellings = (raw.rope_scaling, raw.rope_parameters)
    return next((part for part in spellings if part not in (None, empty)), None) or empty


def stretched_context(raw: RawRotary) -> int:
    """The context that a model has with the rule that is stated.

    Whoever adds yarn to a config, as makers of models advise, leaves `max_position_embeddings` at
    what the model can do without.
    """
    rope, context = _stated(raw), raw.max_position_embeddings
    original = raw.original_max_position_embeddings or rope.original_max_position_embeddings
    if "yarn" not in (rope.rope_type, rope.type) or rope.factor is None or original is None:
        return context
    stretched = min(int(rope.factor * original), _MOST_POSITIONS)
    return max(context, stretched) if original <= context else context


def by_kind(raw: RawRotary, full_theta: float, sliding_theta: float) -> RawRotary:
    """The config with a part for each kind of layer, where `rope_scaling` is of full ones alone.

    The bases are for parts that state none.
    """
    stated = raw.rope_parameters or RawRope()
    scaling = raw.rope_scaling if raw.rope_scaling != RawRope() else None
    full = scaling or stated.full_attention or RawRope()
    sliding = stated.sliding_attention or RawRope()
    parts = RawRope(
        full_attention=_with_theta(full, full_theta),
        sliding_attention=_with_theta(sliding, sliding_theta),
    )
    return msgspec.structs.replace(raw, rope_scaling=None, rope_parameters=parts)


def _with_theta(rope: RawRope, theta: float) -> RawRope:
    return msgspec.structs.replace(rope, rope_theta=rope.rope_theta or theta)


def with_rules_renamed(raw: Rotating, names: Mapping[str, str]) -> Rotating:
    """A config whose family has other names for some of the rules."""

    def renamed(rope: RawRope | None) -> RawRope | None:
        name = names.get(rope.rope_type or rope.type or "") if rope else None
        return msgspec.structs.replace(rope, rope_type=name) if rope and name else rope

    parts = {"rope_scaling": raw.rope_scaling, "rope_parameters": raw.rope_parameters}
    return msgspec.structs.replace(raw, **{field: renamed(rope) for field, rope in parts.items()})


class _Rule(NamedTuple):
    """A rule with what it may need from outside."""

    rule: str
    rope: RawRope
    theta: float
    context: int
    stated_original: int | None
    frequencies: int
    path: Path

    def number(self, name: str, default: float | None = None) -> float:
        """Of the rule's own field."""
        stated: float | None = getattr(self.rope, name)
        return _positive(name, default if stated is None else stated, self.rule, self.path)

    @property
    def original(self) -> int:
        """The context that the model was first trained for, in tokens."""
        original = self.context if self.stated_original is None else self.stated_original
        if not 1 < original <= _MOST_POSITIONS:
            raise CheckpointError(
                f"{self.path}: original_max_position_embeddings is {original}; "
                f"expected 2 to {_MOST_POSITIONS}"
            )
        return original

    @property
    def factor(self) -> float:
        """By how much the context has grown, stated or from what it was."""
        grown = None if self.stated_original is None else self.context / self.original
        return self.number("factor", grown)


def _read(rope: RawRope, raw: RawRotary, head_dim: int, path: Path) -> Rope:
    rule = rope.rope_type or rope.type or "default"
    if rule not in _RULES:
        raise CheckpointError(
            f"{path}: rope_type {rule!r} is not supported; expected one of {tuple(_RULES)}"
        )
    theta = _positive("rope_theta", rope.rope_theta or raw.rope_theta or _THETA, rule, path)
    dim = _rotary_dim(rope, raw, head_dim, path)
    originals = (raw.original_max_position_embeddings, rope.original_max_position_embeddings)
    original = next((found for found in originals if found is not None), None)
    context, frequencies = raw.max_position_embeddings, (dim + 1) // 2
    stated = _Rule(rule, rope, theta, context, original, frequencies, path)
    growth = None
    if rope.llama_4_scaling_beta:
        growth = Growth(stated.number("llama_4_scaling_beta"), stated.original)
    return Rope(theta, dim, _RULES[rule](stated), growth)


def _rotary_dim(rope: RawRope, raw: RawRotary, head_dim: int, path: Path) -> int:
    parts = (rope.partial_rotary_factor, raw.partial_rotary_factor)
    part = next((found for found in parts if found is not None), 1.0)
    dim = int(head_dim * part) if 0 < part <= 1 else 0
    if not dim:
        raise CheckpointError(
            f"{path}: partial_rotary_factor is {part}; expected a part of {head_dim} numbers"
        )
    if dim % 2 and dim == head_dim:
        raise CheckpointError(f"{path}: head_dim is {head_dim}; rotary needs an even number")
    return dim


def _positive(name: str, number: float | None, rule: str, path: Path) -> float:
    if number is None or not 0 < number < math.inf:
        raise CheckpointError(f"{path}: {name} is {number}; rope_type {rule!r} needs one")
    return number


def _linear(stated: _Rule) -> Linear:
    return Linear(stated.number("factor"))


def _llama3(stated: _Rule) -> Llama3:
    low, high = stated.number("low_freq_factor"), stated.number("high_freq_factor")
    if low >= high:
        raise CheckpointError(
            f"{stated.path}: low_freq_factor is {low}; expected less than high_freq_factor, {high}"
        )
    return Llama3(stated.number("factor"), low, high, stated.original)


def _yarn(stated: _Rule) -> Yarn:
    rope, factor = stated.rope, stated.factor
    if stated.theta <= 1.0:
        raise CheckpointError(
            f"{stated.path}: rope_theta is {stated.theta}; rope_type 'yarn' needs more than 1"
        )
    inferred = _mscale(factor, 1.0)
    if rope.mscale and rope.mscale_all_dim:
        weights = stated.number("mscale"), stated.number("mscale_all_dim")
        inferred = _mscale(factor, weights[0]) / _mscale(factor, weights[1])
    return Yarn(
        factor,
        _positive("beta_fast", rope.beta_fast or 32.0, stated.rule, stated.path),
        _positive("beta_slow", rope.beta_slow or 1.0, stated.rule, stated.path),
        stated.original,
        rope.truncate is not False,
        stated.number("attention_factor", inferred),
    )


def mean_scale(raw: RawRotary, path: Path) -> float:
    """By which queries and keys of DeepSeek grow with the context, rotated numbers and others.

    Raises CheckpointError.
    """
    rope = _stated(raw)
    rule = rope.rope_type or rope.type or "default"
    if rule == "default" or not rope.mscale_all_dim:
        return 1.0
    return _mscale(_positive("factor", rope.factor, rule, path), rope.mscale_all_dim)


def _mscale(factor: float, weight: float) -> float:
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1.0 else 1.0


def _longrope(stated: _Rule) -> LongRope:
    factor = stated.factor
    inferred = math.sqrt(1 + math.log(max(factor, 1.0)) / math.log(stated.original))
    return LongRope(
        _factors("short_factor", stated),
        _factors("long_factor", stated),
        stated.original,
        stated.number("attention_factor", inferred),
    )


def _factors(name: str, stated: _Rule) -> tuple[float, ...]:
    factors: tuple[float, ...] = getattr(stated.rope, name) or ()
    if len(factors) != stated.frequencies:
        raise CheckpointError(
            f"{stated.path}: {name} has {len(factors)} numbers; expected {stated.frequencies}"
        )
    return tuple(_positive(name, number, stated.rule, stated.path) for number in factors)


def _dynamic(stated: _Rule) -> None:
    """It would stretch what exceeds the context, which is not served: keys in a cache stay."""
    stated.number("factor")


#: `default` and `dynamic` scale nothing.
_RULES: Mapping[str, Callable[[_Rule], Scaling | None]] = {
    "default": lambda _: None,
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
    "dynamic": _dynamic,
}
