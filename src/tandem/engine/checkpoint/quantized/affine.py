"""Integers with a scale and a zero point a group: (code - zero) * scale.

A zero point becomes a table or a minimum, either of which gives the very same numbers: with scales
of 16 bits no product of these has more digits than float32.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tandem.engine.checkpoint.quantized.numbers import Bytes, nibbles
from tandem.engine.checkpoint.quantized.tensor import BYTE, NIBBLE, Floats, QuantizedTensor, Scales
from tandem.engine.checkpoint.sharding import Span

Integers = npt.NDArray[Any]

#: Of columns that a rank has of an order: the scale of so many is kept once.
_SMALL_GROUP = 32


def code_bits(bits: int, columns: int, *, wide: bool = False) -> int:
    """In memory, of a file's codes of `bits`; `wide` as for `affine`."""
    return BYTE if bits > NIBBLE or columns % 2 or wide else NIBBLE


def groups_of(columns: Span, group: int) -> tuple[int, npt.NDArray[np.int64]]:
    """How many columns share a scale in such a run, and each such group's among the file's."""
    each = math.gcd(group, columns.start, columns.stop)
    return each, np.arange(columns.start, columns.stop, each) // group


def affine(
    codes: Bytes, bits: int, group: int, scales: Floats, zeros: Integers, *, wide: bool = False
) -> QuantizedTensor:
    """Of unsigned codes (rows, columns), a byte each; scales and zeros are (rows, groups).

    `wide` says that the scales have all the digits of float32.
    """
    zeros = zeros.astype(np.int32)
    middle = 1 << (bits - 1)
    constant = bool((zeros == middle).all())
    if bits <= NIBBLE and (wide or codes.shape[1] % 2) and not constant:
        # A product of a zero point would be rounded, or the last code would be without a pair.
        moved = codes.view(np.int8) - np.repeat(zeros, group, axis=1).astype(np.int8)
        return QuantizedTensor(moved, BYTE, group, Scales(scales))
    offset = middle if bits > NIBBLE else 0
    minimums = None if constant else Scales((offset - zeros).astype(np.float32) * scales)
    if bits > NIBBLE or codes.shape[1] % 2:
        moved = (codes - np.uint8(middle if constant else offset)).view(np.int8)
        return QuantizedTensor(moved, BYTE, group, Scales(scales), minimums)
    table = np.arange(-middle, 16 - middle, dtype=np.float32) if constant else None
    return QuantizedTensor(nibbles(codes), NIBBLE, group, Scales(scales), minimums, table)


def in_order(
    codes: Bytes,
    bits: int,
    scales: Floats,
    zeros: Integers,
    index: npt.NDArray[np.int64],
    *,
    wide: bool = False,
) -> QuantizedTensor:
    """Of columns whose group is any: `index` (columns,) names it among the (rows, groups) scales.

    Columns are ordered by group. Where groups differ in size, as in a rank's share, each is filled
    up with columns that are zero to a multiple of what shares a scale.
    """
    order = np.argsort(index, kind="stable")
    found, counts = np.unique(index, return_counts=True)
    even = (counts == counts[0]).all() and counts[0] % 2 == 0
    each = int(counts[0]) if even else _SMALL_GROUP
    filled = -(-counts // each) * each
    before = np.cumsum(filled - counts) - (filled - counts)
    places = np.arange(len(order)) + np.repeat(before, counts)
    groups = np.repeat(found, filled)
    ordered = zeros[:, groups].astype(np.uint8)  # the codes that are zero
    ordered[:, places] = codes[:, order]
    sources = np.zeros(len(groups), np.int64)
    sources[places] = np.arange(len(order))
    shared = groups[::each]
    tensor = affine(ordered, bits, each, scales[:, shared], zeros[:, shared], wide=wide)
    return replace(tensor, order=order[np.maximum.accumulate(sources)])
