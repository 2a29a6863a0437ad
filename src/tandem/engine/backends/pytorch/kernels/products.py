"""Products of few rows by weights in oneDNN's tiles, at the speed of the memory.

oneDNN's own products reach that with many rows only, on CPUs that have instructions for dot
products of 16 and 8 bits but none for matrices (AMX). The inner loops are written down in LLVM's
terms, for what they need has no name in numba: whole vector registers, those instructions, and
prefetching.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import binding, ir
from numba.core import cgutils, codegen
from numba.extending import intrinsic

from tandem.engine.backends.pytorch.kernels.compiled import (
    Numbers,
    compile_loop,
    narrow,
    wide,
)

#: Outputs of a tile, which is (words, 64) words of 32 bits: two bfloat16 inputs or four int8.
TILE_OUTPUTS = 64
#: Words whose weights (4 KiB) stay in the first cache while all rows pass over them.
BLOCK_WORDS = 16
#: Added to int8 activations, as the instructions take unsigned ones.
ZERO_POINT = 128

Tiles = npt.NDArray[np.int32]
"""(outputs / 64, words, 64), as `known_tiles` finds them."""

#: Rows that share a pass over the weights: their sums, 64 outputs each, fill half the registers.
_GROUP_ROWS = 4
#: How far ahead weights are fetched into the second cache while the last rows pass over a block,
#: in bytes; the processor sees only the first pass coming.
_AHEAD = 16384
_LANES = 16
_VECTORS = TILE_OUTPUTS // _LANES
_VECTOR_BYTES = 64
_UNROLLED = 2

_WORD, _ADDRESS = ir.IntType(32), ir.IntType(64)
_WORDS, _FLOATS = ir.VectorType(_WORD, _LANES), ir.VectorType(ir.FloatType(), _LANES)

binding.initialize_native_asmparser()  # for the instructions that are written by name
#: What numba compiles for: this machine, unless its environment variables say otherwise.
_untyped: Any = codegen
_features: str = _untyped.config.CPU_FEATURES or _untyped.get_host_cpu_features()
_HAS_PAIRS = "+avx512bf16" in _features.split(",")


def _dots(
    typing: object,  # noqa: ARG001
    sums: Any,  # noqa: ANN401 - types of numba's from here on
    weights: Any,  # noqa: ANN401
    states: Any,  # noqa: ANN401
    words: Any,  # noqa: ANN401
    rows: Any,  # noqa: ANN401
    ahead: Any,  # noqa: ANN401
) -> tuple[Any, Callable[..., Any]] | None:
    """Adds the products of `words` words to `sums`, (rows, 64).

    `weights` and `states` are addresses of (words, 64) and of (words, rows) words. Sums of float32
    are of pairs of bfloat16; those of int32 of four int8 weights and four uint8 states. `rows` and
    `ahead` must be known when this is compiled, and `words` be even.
    """
    if not isinstance(rows, numba.types.IntegerLiteral):
        return None  # numba asks again with what it knows
    signature = numba.types.void(sums, weights, states, words, rows, ahead)
    count, distance = rows.literal_value, ahead.literal_value
    pairs = sums.dtype == numba.types.float32

    def generate(context: Any, builder: Any, _: object, arguments: Any) -> Any:  # noqa: ANN401
        start = context.make_array(sums)(context, builder, arguments[0]).data
        total = builder.ptrtoint(start, _ADDRESS)
        loop = _Loop(builder, count, _FLOATS if pairs else _WORDS)
        loop.load(total)
        with cgutils.for_range(builder, builder.udiv(arguments[3], _number(_UNROLLED))) as turn:
            for step in range(_UNROLLED):
                word = builder.add(builder.mul(turn.index, _number(_UNROLLED)), _number(step))
                loop.add(arguments[1], arguments[2], word, distance)
        loop.store(total)
        return context.get_dummy_value()

    return signature, generate


_add_dots: Any = intrinsic(prefer_literal=True)(_dots)


class _Loop:
    """Emits the body: sums in registers, a word of each row against 64 weights."""

    def __init__(self, builder: Any, rows: int, kind: Any) -> None:  # noqa: ANN401
        self._builder, self._kind = builder, kind
        allocate: Any = cgutils.alloca_once
        self._sums = [[allocate(builder, kind) for _ in range(_VECTORS)] for _ in range(rows)]

    def load(self, start: Any) -> None:  # noqa: ANN401
        for register, offset in self._registers():
            self._builder.store(self._read(start, offset, self._kind), register)

    def store(self, start: Any) -> None:  # noqa: ANN401
        for register, offset in self._registers():
            place = self._at(start, _number(offset), self._kind)
            self._builder.store(self._builder.load(register), place, align=4)

    def add(self, weights: Any, states: Any, word: Any, ahead: int) -> None:  # noqa: ANN401
        builder = self._builder
        line = builder.add(weights, builder.mul(word, _number(_VECTORS * _VECTOR_BYTES)))
        column = builder.add(states, builder.mul(word, _number(4 * len(self._sums))))
        offsets = [vector * _VECTOR_BYTES for vector in range(_VECTORS)]
        for offset in offsets if ahead else []:
            self._prefetch(line, offset + ahead)
        vectors = [self._read(line, offset, _WORDS) for offset in offsets]
        for row, registers in enumerate(self._sums):
            state = self._everywhere(self._read(column, 4 * row, _WORD))
            for register, vector in zip(registers, vectors, strict=True):
                builder.store(self._dot(builder.load(register), state, vector), register)

    def _registers(self) -> list[tuple[Any, int]]:
        flat = [register for row in self._sums for register in row]
        return [(register, number * _VECTOR_BYTES) for number, register in enumerate(flat)]

    def _at(self, base: Any, offset: Any, kind: Any) -> Any:  # noqa: ANN401
        return self._builder.inttoptr(self._builder.add(base, offset), ir.PointerType(kind))

    def _read(self, base: Any, offset: int, kind: Any) -> Any:  # noqa: ANN401
        return self._builder.load(self._at(base, _number(offset), kind), align=4)

    def _everywhere(self, word: Any) -> Any:  # noqa: ANN401
        undefined = ir.Constant(_WORDS, ir.Undefined)
        first = self._builder.insert_element(undefined, word, ir.Constant(_WORD, 0))
        return self._builder.shuffle_vector(first, undefined, ir.Constant(_WORDS, [0] * _LANES))

    def _prefetch(self, base: Any, offset: int) -> None:  # noqa: ANN401
        kind = ir.FunctionType(ir.VoidType(), [ir.PointerType(_WORD), *[_WORD] * 3])
        declare: Any = cgutils.get_or_insert_function
        prefetch = declare(self._builder.module, kind, "llvm.prefetch.p0")
        reads, second_cache, data = (ir.Constant(_WORD, number) for number in (0, 2, 1))
        place = self._at(base, _number(offset), _WORD)
        self._builder.call(prefetch, [place, reads, second_cache, data])

    def _dot(self, sums: Any, states: Any, weights: Any) -> Any:  # noqa: ANN401
        if self._kind is _WORDS:
            return self._instruction("vpdpbusd", sums, states, weights)
        if _HAS_PAIRS:
            return self._instruction("vdpbf16ps", sums, states, weights)
        fused = ("contract",)
        for half in (self._first, self._second):
            product = self._builder.fmul(half(states), half(weights), fused)
            sums = self._builder.fadd(sums, product, fused)
        return sums

    def _instruction(self, name: str, sums: Any, states: Any, weights: Any) -> Any:  # noqa: ANN401
        kind = ir.FunctionType(self._kind, [self._kind, _WORDS, _WORDS])
        code = ir.InlineAsm(kind, f"{name} $3, $2, $0", "=v,0,v,v", side_effect=False)
        return self._builder.call(code, [sums, states, weights])

    def _first(self, pairs: Any) -> Any:  # noqa: ANN401
        high = self._builder.shl(pairs, ir.Constant(_WORDS, [16] * _LANES))
        return self._builder.bitcast(high, _FLOATS)

    def _second(self, pairs: Any) -> Any:  # noqa: ANN401
        high = self._builder.and_(pairs, ir.Constant(_WORDS, [-65536] * _LANES))
        return self._builder.bitcast(high, _FLOATS)


def _number(value: int) -> Any:  # noqa: ANN401
    return ir.Constant(_ADDRESS, value)


@compile_loop
def _grouped(states: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """(rows, words) → (groups, words, 1, 2 or 4), filled up with rows of zeros."""
    rows, words = states.shape
    width = rows if rows <= 2 else _GROUP_ROWS
    groups = (rows + width - 1) // width
    grouped = np.zeros((groups, words, width), np.int32)
    for row in range(rows):
        for word in range(words):
            grouped[row // width, word, row % width] = states[row, word]
    return grouped


@compile_loop
def _sum_tile(
    tile: npt.NDArray[np.int32],
    grouped: npt.NDArray[np.int32],
    sums: npt.NDArray[np.float32 | np.int32],
) -> None:
    """Products of the rows by a tile, (words, 64), into `sums`, (groups, rows of a group, 64)."""
    groups, words, rows = grouped.shape
    sums[:] = 0
    block = words if groups == 1 else BLOCK_WORDS
    for start in range(0, words, block):
        count = min(block, words - start)
        weights = tile[start].ctypes.data
        for group in range(groups):
            states = grouped[group, start].ctypes.data
            if rows == 1:
                _add_dots(sums[group], weights, states, count, 1, 0)
            elif rows == 2:
                _add_dots(sums[group], weights, states, count, 2, 0)
            elif groups == 1 or group + 1 < groups:
                _add_dots(sums[group], weights, states, count, _GROUP_ROWS, 0)
            else:
                _add_dots(sums[group], weights, states, count, _GROUP_ROWS, _AHEAD)


@compile_loop
def multiply_bfloat16(tiles: Tiles, states: npt.NDArray[np.int32], products: Numbers) -> None:
    """Rows by bfloat16 weights; sums are float32, and so are products or rounded to bfloat16.

    `states` are (rows, words) pairs of bfloat16, `products` (rows, outputs). The result of a row
    does not depend on the rows beside it.
    """
    grouped = _grouped(states)
    width = grouped.shape[2]
    sums = np.empty((len(grouped), width, TILE_OUTPUTS), np.float32)
    for number in range(len(tiles)):
        _sum_tile(tiles[number], grouped, sums)
        for row in range(len(products)):
            for output in range(TILE_OUTPUTS):
                total = sums[row // width, row % width, output]
                products[row, number * TILE_OUTPUTS + output] = narrow(total, products)


#: Added and taken away again, it leaves the nearest whole number, ties to even.
_ROUNDS = np.float32(12582912.0)


@compile_loop
def quantize_activations(
    states: Numbers,
    low_unit: np.float32,
    quantized: npt.NDArray[np.uint8],
    scales: npt.NDArray[np.float32],
) -> None:
    """Writes each number of (rows, width) as two of int8, a high and a low part, times a scale.

    `quantized` is (2 * rows, width): the high parts, in -127..127, then the low ones, in units of
    1 / `low_unit`; `ZERO_POINT` is added to all. The scale of a row that is not finite is none.
    """
    rows, width = states.shape
    for row in range(rows):
        largest, doubt = np.float32(1e-30), np.float32(0)
        for column in range(width):
            number = wide(states[row, column])
            doubt += number * np.float32(0)
            size = abs(number)
            if size > largest:
                largest = size
        scale = largest / np.float32(127)
        scales[row] = scale + doubt
        for column in range(width):
            number = wide(states[row, column]) / scale
            high = (number + _ROUNDS) - _ROUNDS
            low = ((number - high) * low_unit + _ROUNDS) - _ROUNDS
            quantized[row, column] = np.uint8(np.int32(high) + ZERO_POINT)
            quantized[rows + row, column] = np.uint8(np.int32(low) + ZERO_POINT)


@compile_loop
def multiply_int8(
    tiles: Tiles,
    quantized: npt.NDArray[np.int32],
    zeros: npt.NDArray[np.int32],
    outputs: npt.NDArray[np.float32],
    low_unit: np.float32,
    scales: npt.NDArray[np.float32],
    joined: Numbers,
) -> None:
    """Quantized rows by int8 weights, as products of what `quantize_activations` was given.

    Sums fit 32 bits with up to 66,000 inputs.

    `quantized` are (2 * rows, words), `joined` is (rows, outputs). Of each output, `outputs` has
    the scale of its weights, and `zeros` what `ZERO_POINT` adds to a sum: their sum, as often.
    """
    grouped = _grouped(quantized)
    rows, width = len(joined), grouped.shape[2]
    sums = np.empty((len(grouped), width, TILE_OUTPUTS), np.int32)
    for number in range(len(tiles)):
        _sum_tile(tiles[number], grouped, sums)
        for row in range(rows):
            high, low_row = sums[row // width, row % width], rows + row
            low = sums[low_row // width, low_row % width]
            for output in range(TILE_OUTPUTS):
                column = number * TILE_OUTPUTS + output
                whole = np.float32(high[output] - zeros[column])
                whole += np.float32(low[output] - zeros[column]) / low_unit
                joined[row, column] = narrow(whole * outputs[column] * scales[row], joined)


@compile_loop
def dequantize_products(
    products: npt.NDArray[np.float32],
    low_unit: np.float32,
    scales: npt.NDArray[np.float32],
    joined: Numbers,
) -> None:
    """Products of both parts of what was quantized, (2 * rows, width), as those of the numbers."""
    rows, width = joined.shape
    for row in range(rows):
        for column in range(width):
            whole = products[row, column] + products[rows + row, column] / low_unit
            joined[row, column] = narrow(whole * scales[row], joined)
