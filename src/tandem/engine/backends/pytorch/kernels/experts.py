"""Experts of few rows: all that a layer's rows have chosen in one call, each read where it is.

A token has several small experts a layer, and a call of an operator for each step of each of them
would take as long as memory takes to give their weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from tandem.engine.backends.pytorch.kernels.arrays import IntArray
from tandem.engine.backends.pytorch.kernels.compiled import (
    Numbers,
    as_pointer,
    compile_loop,
    compile_sum,
    geglu,
    narrow,
    swiglu,
    wide,
)
from tandem.engine.backends.pytorch.kernels.products import TILE_OUTPUTS, Tiles, multiply_bfloat16

Floats = npt.NDArray[np.float32]

SILU, GELU, CLAMPED = range(3)
Gating = tuple[int, np.float32, np.float32]
"""Which gate, and of a `CLAMPED` one the limit and the factor alpha."""

_numba: Any = numba  # which does not say what it exports


@dataclass(frozen=True)
class TileTable:
    """The tiles of many matrices of one shape, which stay where they are, by their addresses."""

    matrices: list[Tiles]
    addresses: IntArray
    shape: tuple[int, int]  # tiles, words of an output

    @classmethod
    def of(cls, matrices: list[Tiles]) -> TileTable:
        addresses = np.array([tiles.ctypes.data for tiles in matrices], np.int64)
        return cls(matrices, addresses, matrices[0].shape[:2])


@compile_loop
def _tiles(address: int, shape: tuple[int, int]) -> Tiles:
    whole = (shape[0], shape[1], TILE_OUTPUTS)
    tiles: Tiles = _numba.carray(as_pointer(address), whole, np.int32)
    return tiles


@compile_loop
def add_biases(products: Numbers, biases: Numbers) -> None:
    for row in range(len(products)):
        for output in range(len(biases)):
            total = wide(products[row, output]) + wide(biases[output])
            products[row, output] = narrow(total, products)


@compile_loop
def clamped_swiglu(
    gates_and_ups: Numbers, limit: np.float32, alpha: np.float32, gated: Numbers
) -> None:
    """gate * sigmoid(alpha * gate) * (up + 1), both within the limit; shapes as for `swiglu`."""
    rows, width = gated.shape
    for row in range(rows):
        for column in range(width):
            number = min(wide(gates_and_ups[row, column]), limit)
            up = wide(gates_and_ups[row, width + column])
            up = min(max(up, -limit), limit) + np.float32(1)
            share = np.float32(1) / (np.float32(1) + np.exp(-alpha * number))
            gated[row, column] = narrow(number * share * up, gated)


@compile_loop
def gate_rows(gating: Gating, gates_and_ups: Numbers, gated: Numbers) -> None:
    """(rows, 2 * width), gates before ups → (rows, width)."""
    if gating[0] == CLAMPED:
        clamped_swiglu(gates_and_ups, gating[1], gating[2], gated)
    elif gating[0] == GELU:
        geglu(gates_and_ups, gated)
    else:
        swiglu(gates_and_ups, gated)


@compile_loop
def add_experts(
    gate_ups: tuple[IntArray, tuple[int, int]],
    downs: tuple[IntArray, tuple[int, int]],
    biases: tuple[Numbers, Numbers],
    gating: Gating,
    states: npt.NDArray[np.int32],
    chosen: tuple[IntArray, Floats],
    first: int,
    totals: Floats,
) -> None:
    """Adds to (rows, hidden) what the experts that are here make of (rows, words) of bfloat16.

    `gate_ups` and `downs` are tables of tiles, (addresses, shape), the first for the expert number
    `first`; `biases` (experts, outputs) of both, or with no rows. `chosen` are the numbers and the
    factors of each row's experts, (rows, top_k). Experts come in the order of their numbers, and
    the result of a row does not depend on the rows beside it.
    """
    rows, hidden = totals.shape
    columns = gate_ups[1][0] * TILE_OUTPUTS // 2
    gathered = np.empty(states.shape, np.int32)
    both = np.empty((rows, 2 * columns), np.int16)
    words = np.empty((rows, columns // 2), np.int32)
    gated = _numba.carray(as_pointer(words.ctypes.data), (rows, columns), np.int16)
    results = np.empty((rows, hidden), np.int16)
    whose, factors = np.empty(rows, np.int64), np.empty(rows, np.float32)
    for number in range(len(gate_ups[0])):
        count = _gather(states, chosen, first + number, gathered, whose, factors)
        if count == 0:
            continue
        tiles = _tiles(gate_ups[0][number], gate_ups[1])
        multiply_bfloat16(tiles, gathered[:count], both[:count])
        if len(biases[0]):
            add_biases(both[:count], biases[0][number])
        gate_rows(gating, both[:count], gated[:count])
        tiles = _tiles(downs[0][number], downs[1])
        multiply_bfloat16(tiles, words[:count], results[:count])
        if len(biases[1]):
            add_biases(results[:count], biases[1][number])
        for place in range(count):
            for output in range(hidden):
                part = wide(results[place, output]) * factors[place]
                totals[whose[place], output] += part


@compile_loop
def _gather(
    states: npt.NDArray[np.int32],
    chosen: tuple[IntArray, Floats],
    expert: int,
    gathered: npt.NDArray[np.int32],
    whose: IntArray,
    factors: Floats,
) -> int:
    """Copies the rows that have chosen an expert, and says how many there are."""
    count = 0
    for row in range(len(states)):
        for place in range(chosen[0].shape[1]):
            if chosen[0][row, place] == expert:
                gathered[count] = states[row]
                whose[count], factors[count] = row, chosen[1][row, place]
                count += 1
    return count


@compile_loop
def route(
    states: Numbers,
    weight: Numbers,
    bias: Floats,
    renormalised: bool,
    experts: IntArray,
    factors: Floats,
) -> None:
    """`choose_experts` by what `multiply_alone` gives."""
    logits = np.empty((len(states), len(weight)), np.float32)
    multiply_alone(states, weight, bias, logits)
    choose_experts(logits, renormalised, experts, factors)


@compile_sum
def multiply_alone(
    states: Numbers,
    weight: Numbers,
    bias: npt.NDArray[np.float32],
    products: npt.NDArray[np.float32],
) -> None:
    """Few outputs in float32: (rows, width) by (outputs, width), and a bias for each or none.

    A row's products do not depend on the rows beside it.
    """
    for row in range(len(states)):
        for output in range(len(weight)):
            total = np.float32(0)
            for column in range(states.shape[1]):
                total += wide(states[row, column]) * wide(weight[output, column])
            products[row, output] = total + bias[output] if len(bias) else total


@compile_loop
def choose_experts(logits: Floats, renormalised: bool, experts: IntArray, factors: Floats) -> None:
    """The likeliest of each row, the likeliest first, by a softmax of (rows, experts) logits.

    Of equals the first; what is not a number is chosen all the same.
    """
    rows, count = logits.shape
    powers = np.empty(count, np.float32)
    for row in range(rows):
        largest = logits[row].max()
        for number in range(count):
            powers[number] = np.exp(logits[row, number] - largest)
        total, chosen = powers.sum(), np.float32(0)
        for place in range(experts.shape[1]):
            best = _first_best(powers)
            experts[row, place], factors[row, place] = best, powers[best]
            chosen += powers[best]
            powers[best] = -1
        factors[row] /= chosen if renormalised else total


@compile_loop
def _first_best(powers: Floats) -> int:
    """Of those that are not -1."""
    best = -1
    for number in range(len(powers)):
        if powers[number] != -1 and (best < 0 or powers[number] > powers[best]):
            best = number
    return best
