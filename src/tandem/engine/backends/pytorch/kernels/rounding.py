"""Weights rounded to four bits a number, while a model is loaded.

A number is one of sixteen times the scale of its group. Scales are chosen so that the sum of the
squared errors is small, those of large numbers counting for more: what is large moves results most.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from tandem.engine.backends.pytorch.kernels.arrays import as_array, has_loops
from tandem.engine.backends.pytorch.kernels.compiled import (
    Numbers,
    compile_loop,
    compile_sum,
    wide,
)
from tandem.engine.checkpoint.quantized.numbers import UNEVEN
from tandem.engine.checkpoint.quantized.tensor import NIBBLE, Floats, QuantizedTensor, Scales

#: Numbers that share a scale, which takes 16 bits: 4.5 bits a number.
GROUP = 32
_TABLE = np.array(UNEVEN, np.float32)
#: The code of the number in the table that is nearest, for -128 to 127.
_NEAREST = np.abs(np.arange(-128, 128)[:, None] - _TABLE).argmin(axis=1).astype(np.uint8)
#: How much smaller and larger than the largest number wants it a scale may be.
_STRETCHES = np.array([0.86, 0.92, 0.98, 1.04, 1.1], np.float32)


def rounded_to_four_bits(weight: torch.Tensor) -> QuantizedTensor | None:
    """Of a (rows, columns) matrix; None where groups do not divide the columns."""
    rows, columns = weight.shape
    if columns % GROUP:
        return None
    numbers = weight if has_loops(weight.dtype, weight.device) else weight.float().cpu()
    matrix = as_array(numbers.contiguous())
    scales = np.empty((rows, columns // GROUP), np.float32)
    codes = np.empty((rows, columns // 2), np.uint8)

    def convert(start: int, end: int) -> None:
        part = slice(start, end)
        _choose_scales(matrix[part], _TABLE[[0, -1]], _STRETCHES, _TABLE[_NEAREST], scales[part])
        _in_sixteen_bits(scales[part])
        _choose_codes(matrix[part], scales[part], _NEAREST, codes[part])

    threads = torch.get_num_threads()
    bounds = [rows * number // threads for number in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(convert, bounds[:-1], bounds[1:]))
    return QuantizedTensor(codes, NIBBLE, GROUP, Scales(scales), table=_TABLE)


def _in_sixteen_bits(scales: Floats) -> None:
    """Rounds them in place to float16, which has no larger ones."""
    largest = np.finfo(np.float16).max
    scales[:] = np.clip(scales, -largest, largest).astype(np.float16)


@compile_sum
def _place(number: np.float32) -> np.int64:
    """Where the nearest of the table is found, of what is not a number too."""
    within = max(np.float32(-128), number)
    return np.int64(min(within, np.float32(127)) + np.float32(128.5))


@compile_sum
def _fit(
    numbers: Floats, importance: Floats, inverse: np.float32, steps: Floats
) -> tuple[np.float32, np.float32]:
    """The scale that is best for the steps nearest to `numbers * inverse`, and what it gains.

    The sum of squared errors, each times the number's importance, is by so much smaller than
    without a scale.
    """
    along, size = np.float32(0), np.float32(1e-30)
    for column in range(GROUP):
        step = steps[_place(numbers[column] * inverse)]
        weighted = step * importance[column]
        along += weighted * numbers[column]
        size += weighted * step
    return along / size, along * (along / size)


@compile_sum
def _largest(numbers: Floats) -> tuple[np.float32, np.float32, np.float32]:
    """The number that is the farthest from zero, the mean distance, and none if any is none."""
    low, high, total, doubt = numbers[0], numbers[0], np.float32(0), np.float32(0)
    for column in range(GROUP):
        low, high = min(low, numbers[column]), max(high, numbers[column])
        total += abs(numbers[column])
        doubt += numbers[column] * np.float32(0)
    return high if high > -low else low, total / np.float32(GROUP), doubt


@compile_loop
def _choose_scales(
    weight: Numbers, ends: Floats, stretches: Floats, steps: Floats, scales: Floats
) -> None:
    """A group that has what is not a number gets a scale that is none."""
    numbers, importance = np.empty(GROUP, np.float32), np.empty(GROUP, np.float32)
    for row in range(len(weight)):
        for group in range(scales.shape[1]):
            for column in range(GROUP):
                numbers[column] = wide(weight[row, group * GROUP + column])
            largest, mean, doubt = _largest(numbers)
            for column in range(GROUP):
                importance[column] = abs(numbers[column]) + mean
            most, best = np.float32(0), np.float32(0)
            for end in ends:
                for stretch in stretches:
                    scale, gain = _fit(numbers, importance, end * stretch / largest, steps)
                    if gain > most:
                        most, best = gain, scale
            scales[row, group] = best + doubt


@compile_loop
def _choose_codes(
    weight: Numbers,
    scales: Floats,
    nearest: npt.NDArray[np.uint8],
    codes: npt.NDArray[np.uint8],
) -> None:
    """Two to a byte, the even column in its low half."""
    for row in range(len(weight)):
        for group in range(scales.shape[1]):
            scale = scales[row, group]
            inverse = np.float32(1) / scale if scale != 0 else np.float32(0)
            for column in range(group * GROUP, (group + 1) * GROUP, 2):
                low = nearest[_place(wide(weight[row, column]) * inverse)]
                high = nearest[_place(wide(weight[row, column + 1]) * inverse)]
                codes[row, column // 2] = low | high << 4
