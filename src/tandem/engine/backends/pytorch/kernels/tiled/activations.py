"""Activations in the order in which products by tiles read them: rows that pass together, by input.

Of such rows, all numbers for one input follow one another, or all pairs for two inputs. The
last rows are filled up with zeros.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tandem.engine.backends.pytorch.kernels.compiled import Numbers, compile_loop, wide

__all__ = ["Numbers", "quantize", "widen"]

#: Added and taken away again, it leaves the nearest whole number, ties to even.
_ROUNDS = np.float32(12582912.0)
_LARGEST = np.float32(32767)
_SIZE, _INFINITE, _TINY = 0x7FFFFFFF, 0x7F800000, 0x0DA24260  # bits; the last are 1e-30


@compile_loop
def widen(
    states: Numbers, ordered: npt.NDArray[np.float32], inputs: int, together: int, last: int
) -> None:
    """Writes (rows, width) as float32, for `inputs` inputs, which are not fewer than the width."""
    rows, width = states.shape
    for row in range(rows):
        first = row // together * together
        count = together if first + together < rows else last
        start = first * inputs + row - first
        for column in range(width):
            ordered[start + column * count] = wide(states[row, column])


@compile_loop
def quantize(
    states: Numbers,
    sizes: tuple[int, int, int, int, int],
    ordered: npt.NDArray[np.int16],
    zeros: npt.NDArray[np.int32],
    units: npt.NDArray[np.float32],
    totals: npt.NDArray[np.float32],
) -> None:
    """Writes each number of (rows, width) as an integer of 16 bits, times a unit of its group.

    `sizes` are how many inputs there are, and in a group, how many rows pass together and in the
    end, and what a code is above its number: so often, `zeros` take away the sum of the integers.
    `totals` are those sums as numbers. The unit of a group that is not finite is none.
    """
    inputs, group, together, last, zero = sizes
    rows, width = states.shape
    integers = np.empty(group, np.int16)
    for row in range(rows):
        first = row // together * together
        count = together if first + together < rows else last
        lane = row - first
        for number in range((width + group - 1) // group):
            start = number * group
            part = states[row, start : min(start + group, width)]
            unit, total = _integers(part, integers)
            place = (first * inputs + start * count) + 2 * lane
            for pair in range(len(part) // 2):
                ordered[place + 2 * pair * count] = integers[2 * pair]
                ordered[place + 2 * pair * count + 1] = integers[2 * pair + 1]
            if len(part) % 2:
                ordered[place + (len(part) - 1) * count] = integers[len(part) - 1]
            where = (first * (inputs // group)) + number * count + lane
            zeros[where] = -zero * total
            units[where] = unit
            totals[where] = np.float32(total) * unit


@compile_loop
def halve(states: npt.NDArray[np.float32], group: int, halves: npt.NDArray[np.float32]) -> None:
    """Writes (rows, width) as what `quantize` keeps of it and, in rows behind, what is left."""
    rows, width = states.shape
    integers = np.empty(group, np.int16)
    for row in range(rows):
        for start in range(0, width, group):
            part = states[row, start : min(start + group, width)]
            unit, _ = _integers(part, integers)
            for column in range(len(part)):
                kept = np.float32(integers[column]) * unit
                halves[row, start + column] = kept
                halves[rows + row, start + column] = part[column] - kept


@compile_loop
def _integers(part: Numbers, integers: npt.NDArray[np.int16]) -> tuple[np.float32, np.int32]:
    """Writes them, and returns their unit and their sum."""
    largest = np.int32(_TINY)
    for column in range(len(part)):
        size = np.int32(np.float32(wide(part[column])).view(np.int32) & np.int32(_SIZE))
        largest = max(largest, size)
    unit = np.int32(largest).view(np.float32) / _LARGEST
    factor = np.float32(1) / unit
    total = np.int32(0)
    for column in range(len(part)):
        whole = (wide(part[column]) * factor + _ROUNDS) - _ROUNDS
        integer = np.int32(whole)
        integers[column] = np.int16(integer)
        total += integer
    if largest >= np.int32(_INFINITE):
        unit = np.float32(np.nan)
    return unit, total
