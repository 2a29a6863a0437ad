"""Weights of eight bits, FP8 or integers, whose scales are for all, for rows, groups or blocks.

Activations stay as wide as the model's: scales of theirs are not read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tandem.engine.checkpoint.quantized.affine import groups_of
from tandem.engine.checkpoint.quantized.numbers import SMALL_FLOATS, float32
from tandem.engine.checkpoint.quantized.tensor import BYTE, Floats, QuantizedTensor, Scales
from tandem.engine.checkpoint.schemes.parts import WIDE, Array, Layout, Part, Parts

_FLOATS = ("F8_E4M3", "F8_E5M2")
_POWERS = "F8_E8M0"
#: What is known of activations and caches, of which nothing is quantised here.
ACTIVATIONS = (
    *(".input_scale", ".input_zero_point", ".input_global_scale", ".activation_scale"),
    *(".output_scale", ".output_zero_point", ".kv_scale", ".k_scale", ".v_scale", ".q_scale"),
    ".prob_scale",
)

#: Rows and columns that share a scale.
Block = tuple[int, int]


class Grid(NamedTuple):
    """Scales of blocks of so many rows and columns, (row blocks, column blocks) of them."""

    rows: int
    columns: int
    shape: tuple[int, int]


def scaled_layout(parts: Parts, role: str, blocks: Sequence[Block], name: str) -> Layout:
    """Of `weight` with scales in `role`. Raises CheckpointError for what does not fit together."""
    rows, columns = parts.shape("weight", (*_FLOATS, "I8"), (2,))
    grid = _grid(parts, role, blocks)
    minimums = _has_zero_points(parts)
    if minimums:
        parts.expect("zero_points", ("I8",), parts.shape(role, WIDE, (0, 1, 2)))
    kind = parts.dtype("weight").removeprefix("F8_")
    share = f"blocks of {grid.rows} by {grid.columns}"
    group = math.gcd(grid.columns, columns)
    return Layout((rows, columns), BYTE, group, minimums, f"{name} {kind}, {share}")


def read_scaled(parts: Parts, role: str, blocks: Sequence[Block], part: Part) -> QuantizedTensor:
    stored, grid = parts.array("weight"), _grid(parts, role, blocks)
    each, groups = groups_of(part.columns, grid.columns)
    of_rows = np.arange(part.rows.start, part.rows.stop) // grid.rows

    def spread(numbers: Array) -> Array:
        return np.asarray(numbers.reshape(grid.shape)[of_rows][:, groups])

    scales: Floats = spread(float32(parts.array(role), _dtype(parts, role)))
    codes = stored[part.height, part.width].copy()
    table = SMALL_FLOATS.get(parts.dtype("weight"))
    minimums = None
    if _has_zero_points(parts):
        zeros = spread(parts.array("zero_points")).astype(np.float32)
        minimums = Scales(-zeros * scales)
    return QuantizedTensor(codes, BYTE, each, Scales(scales), minimums, table)


def _has_zero_points(parts: Parts) -> bool:
    """Those of floating-point weights are zeros, where older files have them."""
    return parts.dtype("weight") == "I8" and "zero_points" in parts


def _grid(parts: Parts, role: str, blocks: Sequence[Block]) -> Grid:
    """Of all, of rows, or of one of the kinds of `blocks`; the last ones may not be whole."""
    rows, columns = parts.array("weight").shape
    found = parts.shape(role, (*WIDE, _POWERS, "U8"), (0, 1, 2))
    counts = (1, 1) if math.prod(found) == 1 else (*found, 1)[:2]
    for height, width in ((rows, columns), (1, columns), *blocks):
        if counts == (-(-rows // height), -(-columns // width)):
            return Grid(height, width, counts)
    raise parts.fault(role, f"has shape {list(found)}; expected one for all, for rows, or {blocks}")


def _dtype(parts: Parts, role: str) -> str:
    """Exponents come as plain bytes too."""
    dtype = parts.dtype(role)
    return _POWERS if dtype == "U8" else dtype
