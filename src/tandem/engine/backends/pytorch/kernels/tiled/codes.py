"""Matrices of few bits as the codes that `loops` take: numbers of no sign, and scales.

A number is (code - zero) * scale + minimum, where a code of four bits may stand for one of eight
in a table of sixteen. Nothing is rounded on the way into it; what cannot be said so is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tandem.engine.backends.pytorch.kernels.tiled.microkernels import FLOAT16, FLOAT32, INTEGERS
from tandem.engine.backends.pytorch.kernels.tiled.vectors import HAS_SHUFFLES
from tandem.engine.checkpoint.quantized.tensor import NIBBLE, QuantizedTensor, Scales

_WORD_BITS = 32
#: Inputs whose products of 16 bits by 8 are summed up in 32 bits.
_MOST_INPUTS = 256
_SIGNED = 128
#: Fractions that a table may be in: MXFP4's are halves.
_FRACTIONS = 8

Part = npt.NDArray[np.generic]


@dataclass(frozen=True)
class GroupCodes:
    """A (rows, inputs) matrix, filled up to whole groups.

    `codes` are uint8 (rows, filled inputs), `table` uint8 (16,), with 0 first. `scales` and
    `minimums` are (rows, groups): float32, float16, or int8 times float32 `outer_scales` and
    `outer_minimums`, (rows, groups / outer_groups).
    """

    codes: npt.NDArray[np.uint8]
    bits: int
    inputs: int
    group: int
    zero: int
    table: npt.NDArray[np.uint8] | None
    scales: Part
    minimums: Part | None
    outer_scales: Part | None
    outer_minimums: Part | None

    @property
    def outer_groups(self) -> int:
        return (
            1 if self.outer_scales is None else self.scales.shape[1] // self.outer_scales.shape[1]
        )

    @property
    def kind(self) -> tuple[int, int, int, int]:
        """`loops.Kind`."""
        kinds = {"float32": FLOAT32, "float16": FLOAT16, "int8": INTEGERS}
        scales = kinds[self.scales.dtype.name]
        return self.bits, self.table is not None, self.minimums is not None, scales


def group_codes(tensor: QuantizedTensor) -> GroupCodes | None:
    """None where groups are no whole words, or a table has no whole numbers of eight bits."""
    numbers = _whole_numbers(tensor)
    filled = _in_words(tensor)
    if numbers is None or filled is None:
        return None
    integers, fraction = numbers
    bits, codes, table = _recoded(filled, (integers - integers.min()).astype(np.uint8))
    kept = _integer_scales(filled, fraction) or _float_scales(filled, fraction)
    zero, inputs = -int(integers.min()), tensor.shape[1]
    return GroupCodes(codes, bits, inputs, filled.group, zero, table, *kept)


def _whole_numbers(tensor: QuantizedTensor) -> tuple[npt.NDArray[np.int64], np.float32] | None:
    """What codes, as bytes or nibbles, stand for: integers, in units of a power of two."""
    if tensor.table is None:
        if tensor.bits == NIBBLE:
            return np.arange(1 << NIBBLE), np.float32(1)
        return np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int64), np.float32(1)
    for fraction in (2.0**-power for power in range(_FRACTIONS)):
        units = tensor.table / np.float32(fraction)
        if np.isfinite(units).all() and np.array_equal(units, np.rint(units)):
            fits = float(units.max()) - float(units.min()) < 1 << 8
            return (units.astype(np.int64), np.float32(fraction)) if fits else None
    return None


def _in_words(tensor: QuantizedTensor) -> QuantizedTensor | None:
    """With groups of whole words that are not too long; a row of one group is filled up."""
    columns, each = tensor.shape[1], _WORD_BITS // tensor.bits
    if tensor.scales.groups == 1 and (columns > _MOST_INPUTS or columns % each):
        group = _MOST_INPUTS // 2 if columns > _MOST_INPUTS else -(-columns // each) * each
        more = (-columns) % group
        codes = np.pad(tensor.codes, ((0, 0), (0, more * tensor.bits // (2 * NIBBLE))))
        return replace(tensor, codes=codes, group=columns + more).regrouped(group)
    lengths = range(min(tensor.group, _MOST_INPUTS) // each * each, 0, -each)
    length = next((length for length in lengths if tensor.group % length == 0), None)
    if length is not None:
        return tensor.regrouped(length)
    return _in_words(tensor.widened()) if tensor.bits == NIBBLE else None


def _recoded(
    tensor: QuantizedTensor, numbers: npt.NDArray[np.uint8]
) -> tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    """Bits, codes and a table: a code is its number, or the place of that among those."""
    codes = tensor.unpacked().view(np.uint8)
    if tensor.bits != NIBBLE:
        return tensor.bits, numbers[codes], None
    if numbers.max() < 1 << NIBBLE:
        return NIBBLE, numbers[codes], None
    if not HAS_SHUFFLES:
        return 2 * NIBBLE, numbers[codes], None
    order = np.argsort(numbers, kind="stable")
    places = np.argsort(order).astype(np.uint8)
    return NIBBLE, places[codes], numbers[order]


def _parts(tensor: QuantizedTensor) -> list[Scales]:
    return [tensor.scales] if tensor.minimums is None else [tensor.scales, tensor.minimums]


def _integer_scales(
    tensor: QuantizedTensor, fraction: np.float32
) -> tuple[Part, Part | None, Part, Part | None] | None:
    """Scales and minimums as `GroupCodes` has them, and what they are multiplied by."""
    parts = _parts(tensor)
    inner = [part.inner for part in parts if part.inner is not None]
    outer = [part.outer for part in parts]
    small = all(part.min(initial=0) >= -128 and part.max(initial=0) < 128 for part in inner)
    if len(inner) < len(parts) or not small or len({part.shape for part in outer}) > 1:
        return None
    kept = [part.astype(np.int8) for part in inner]
    return kept[0], _second(kept), outer[0] * fraction, _second(outer)


def _float_scales(
    tensor: QuantizedTensor, fraction: np.float32
) -> tuple[Part, Part | None, None, None]:
    values = [part.values() for part in _parts(tensor)]
    values[0] = values[0] * fraction
    with np.errstate(over="ignore"):
        halves = [part.astype(np.float16) for part in values]
    same = all(np.array_equal(*pair) for pair in zip(halves, values, strict=True))
    kept: list[Part] = list(halves if same else values)
    return kept[0], _second(kept), None, None


def _second(parts: Sequence[Part]) -> Part | None:
    return parts[1] if len(parts) > 1 else None
