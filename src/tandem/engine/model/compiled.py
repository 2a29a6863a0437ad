"""Loops for CPUs that PyTorch has no fast kernel for, compiled by numba on their first call.

They run on the calling thread without the interpreter lock. numba knows no bfloat16: such numbers
come as the integers that have their bits, in pairs where a register is to hold two.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from numba.extending import overload

#: Outputs of a tile of `multiply_row`, and pairs of inputs: oneDNN's block for bfloat16.
TILE_ROWS, TILE_PAIRS = 64, 16

_PLAIN = 16  # bits by which a float32 is longer than a bfloat16
_HIGH = -65536  # the mask of a pair's second number
_EXPONENT, _FRACTION, _QUIET = 0x7F800000, 0x007FFFFF, 0x00400000

_compile = numba.njit(nogil=True, boundscheck=False, cache=True, fastmath={"contract"})
#: A sum in an order that suits the registers; the same one for the same width.
_compile_sum = numba.njit(
    nogil=True, boundscheck=False, cache=True, fastmath={"contract", "reassoc"}
)


@_compile
def _first(pair: np.int32) -> np.float32:
    return np.int32(pair << _PLAIN).view(np.float32)


@_compile
def _second(pair: np.int32) -> np.float32:
    return np.int32(pair & _HIGH).view(np.float32)


@_compile
def _rounded(number: np.float32) -> np.int16:
    """bfloat16, to the nearest and even; what is not a number stays that."""
    bits = np.int64(np.float32(number).view(np.int32))
    if bits & _EXPONENT == _EXPONENT:
        bits |= _QUIET if bits & _FRACTION else 0
    else:
        bits += 0x7FFF + ((bits >> _PLAIN) & 1)
    return np.int16(bits >> _PLAIN)


def _wide(number: np.float32 | np.int16) -> np.float32:
    """A float32, or one of the bits of a bfloat16."""
    raise NotImplementedError("only compiled code calls this")


def _narrow(number: np.float32, like: npt.NDArray[np.float32 | np.int16]) -> np.float32 | np.int16:
    """What `_wide` takes for a number of such an array."""
    raise NotImplementedError("only compiled code calls this")


@overload(_wide)
def _compile_wide(number: Any) -> Any:  # noqa: ANN401 - a type of numba's
    def of_bits(number: Any) -> Any:  # noqa: ANN401
        return _first(np.int32(number))

    def of_float(number: Any) -> Any:  # noqa: ANN401
        return number

    return of_bits if number == numba.types.int16 else of_float


@overload(_narrow)
def _compile_narrow(number: Any, like: Any) -> Any:  # noqa: ANN401, ARG001 - numba asks by name
    def to_bits(number: Any, like: Any) -> Any:  # noqa: ANN401, ARG001
        return _rounded(number)

    def to_float(number: Any, like: Any) -> Any:  # noqa: ANN401, ARG001
        return number

    return to_bits if like.dtype == numba.types.int16 else to_float


def takes(states: torch.Tensor) -> bool:
    """Whether the loops here can read such a tensor."""
    on_cpu = states.device.type == "cpu" and states.is_contiguous()
    return on_cpu and states.dtype in {torch.float32, torch.bfloat16}


def rms_norm(states: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Of the last dimension. The tensor is one that `takes` says yes to."""
    normalised = torch.empty_like(states)
    width = states.shape[-1]
    rows, results = (_bits(tensor).reshape(-1, width) for tensor in (states, normalised))
    normalise(rows, _bits(weight), np.float32(eps), results)
    return normalised


def multiply_one(states: torch.Tensor, tiles: npt.NDArray[np.int32]) -> torch.Tensor:
    """(1, in_features) bfloat16 by the tiles of `multiply_row`: (1, out_features)."""
    product = states.new_empty((1, tiles.shape[0] * TILE_ROWS))
    pairs = states.contiguous().view(torch.int32).numpy()[0]
    multiply_row(tiles, pairs, product.view(torch.int16).numpy()[0])
    return product


def _bits(tensor: torch.Tensor) -> npt.NDArray[np.float32 | np.int16]:
    """The tensor's own memory, as the loops take it."""
    plain = tensor if tensor.dtype == torch.float32 else tensor.view(torch.int16)
    array: npt.NDArray[np.float32 | np.int16] = plain.numpy()
    return array


@_compile_sum
def normalise(
    states: npt.NDArray[np.float32 | np.int16],
    weight: npt.NDArray[np.float32 | np.int16],
    eps: np.float32,
    normalised: npt.NDArray[np.float32 | np.int16],
) -> None:
    """RMSNorm of each row of (rows, width); rounded before and after the weight."""
    width = states.shape[1]
    for row in range(len(states)):
        total = np.float32(0)
        for column in range(width):
            total += _wide(states[row, column]) * _wide(states[row, column])
        factor = np.float32(1) / np.sqrt(total / np.float32(width) + eps)
        for column in range(width):
            scaled = _narrow(_wide(states[row, column]) * factor, normalised)
            product = _wide(weight[column]) * _wide(scaled)
            normalised[row, column] = _narrow(product, normalised)


@_compile
def multiply_row(
    tiles: npt.NDArray[np.int32], states: npt.NDArray[np.int32], products: npt.NDArray[np.int16]
) -> None:
    """One row by bfloat16 weights; sums are float32, products rounded to bfloat16.

    `tiles` are pairs of inputs, (outputs / 64, inputs / 32, 16, 64); `states` (inputs / 2,) pairs.
    Reads the weights from memory as fast as one core can, which no product of PyTorch's does for
    one row on CPUs without AMX.
    """
    for row in range(tiles.shape[0]):
        sums = np.zeros(TILE_ROWS, np.float32)
        for column in range(tiles.shape[1]):
            for pair in range(TILE_PAIRS):
                state = states[column * TILE_PAIRS + pair]
                first, second = _first(state), _second(state)
                for output in range(TILE_ROWS):
                    weight = tiles[row, column, pair, output]
                    sums[output] += _first(weight) * first + _second(weight) * second
        for output in range(TILE_ROWS):
            products[row * TILE_ROWS + output] = _rounded(sums[output])
