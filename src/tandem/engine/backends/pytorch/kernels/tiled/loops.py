"""Products of rows by weights in tiles of our own, which stay narrow and are widened in registers.

A job is an array of int64 that says where everything is; the compiled functions here take its
address, on as many threads as like to, each of which claims some tiles after the others. A
tile's sums are computed by one thread, in an order that depends on nothing else, so the product of
a row depends neither on the rows beside it nor on the number of threads.
"""

from __future__ import annotations

from enum import IntEnum, auto
from functools import cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba.extending import overload

from tandem.engine.backends.pytorch.kernels.compiled import (
    KEPT,
    Numbers,
    as_pointer,
    compile_loop,
    narrow,
)
from tandem.engine.backends.pytorch.kernels.tiled.activations import quantize, widen
from tandem.engine.backends.pytorch.kernels.tiled.microkernels import (
    Loop,
    add_bfloat16,
    add_codes,
    fetch_add,
    rows_of,
)
from tandem.engine.backends.pytorch.kernels.tiled.vectors import NUMBER_BITS, Width

Job = npt.NDArray[np.int64]

#: Weights of a tile that stay in the first cache while all rows pass over them.
BLOCK_BYTES = 16384
_WORD_BYTES = 4
_numba: Any = numba  # which does not say what it exports

Kind = tuple[int, int, int, int]
"""How weights are kept, as `Loop` has it: bits, looked up, minimums, scales."""


class Field(IntEnum):
    """What a job has where. Addresses unless they are counts; `*_BYTES` are those of a tile."""

    NEXT = 0  #: the first tile that no thread has claimed
    GRAIN = auto()  #: tiles that a thread claims at a time
    TILES = auto()
    TILES_TOGETHER = auto()  #: that are multiplied at a time
    TILE_OUTPUTS = auto()
    WEIGHTS = auto()
    TILE_BYTES = auto()
    WORDS = auto()  #: of an output's group of inputs; with bfloat16 of all inputs
    GROUPS = auto()  #: of inputs
    AHEAD = auto()  #: bytes from weights to those that are fetched meanwhile, for few rows
    SCALES = auto()
    MINIMUMS = auto()
    SCALE_BYTES = auto()
    OUTER_SCALES = auto()
    OUTER_MINIMUMS = auto()
    OUTER_BYTES = auto()
    OUTER_GROUPS = auto()  #: that share an outer scale
    TABLE = auto()
    INPUT = auto()  #: states as they are given, (rows, inputs)
    INPUTS = auto()
    FILLED = auto()  #: inputs, filled up to whole groups or words
    GROUP = auto()  #: inputs of a group
    ZERO = auto()  #: what a code is above its number
    STATES = auto()  #: states in the order in which they are read
    STATE_BYTES = auto()  #: of a row
    ZEROS = auto()
    UNITS = auto()
    TOTALS = auto()
    ROWS = auto()
    TOGETHER = auto()  #: rows that pass over the weights at a time
    LAST = auto()  #: as many, of those that are left in the end
    BLOCK = auto()  #: rows whose states stay in the second cache
    RESULT = auto()
    OUTPUTS = auto()  #: of the result, which has no more
    FIRST = auto()  #: the result's column of the first output
    RESULT_WIDTH = auto()


_FIELDS = len(Field)


@cache
def compiled_for(width: Width, kind: Kind, rounded: bool) -> int:
    """The address of the C function for such weights; results are float32, or `rounded`.

    It takes the address of a job that was prepared, and returns when all tiles are claimed.
    Rounded results are bfloat16.
    """
    one, few, some, most = loop_codes(width, kind)
    dtype = np.int16 if rounded else np.float32

    def run(pointer: Any) -> None:  # noqa: ANN401 - a type of numba's
        job = _numba.carray(pointer, (_FIELDS,), np.int64)
        shape = (job[Field.ROWS], job[Field.RESULT_WIDTH])
        result: Numbers = _numba.carray(as_pointer(job[Field.RESULT]), shape, dtype)
        claim_tiles(job, result, one, few, some, most)

    signature = numba.types.void(numba.types.voidptr)
    function = _numba.cfunc(signature, cache=KEPT, error_model="numpy")(run)
    address: int = function.address
    return address


@cache
def preparation_for(numbers: bool, narrow_states: bool) -> int:
    """The address of the C function that puts a job's states in order, before tiles are claimed.

    For weights that are `numbers` or codes; states are bfloat16 if `narrow_states`, else float32.
    """
    dtype = np.int16 if narrow_states else np.float32

    def prepare(pointer: Any) -> None:  # noqa: ANN401 - a type of numba's
        job = _numba.carray(pointer, (_FIELDS,), np.int64)
        job[Field.NEXT] = 0
        shape = (job[Field.ROWS], job[Field.INPUTS])
        states: Numbers = _numba.carray(as_pointer(job[Field.INPUT]), shape, dtype)
        if numbers:
            _put_numbers(job, states)
        else:
            _put_codes(job, states)

    signature = numba.types.void(numba.types.voidptr)
    function = _numba.cfunc(signature, cache=KEPT, error_model="numpy")(prepare)
    address: int = function.address
    return address


@compile_loop
def _put_numbers(job: Job, states: Numbers) -> None:
    filled, rows = job[Field.FILLED], _padded_rows(job)
    ordered = _numba.carray(as_pointer(job[Field.STATES]), rows * filled, np.float32)
    widen(states, ordered, filled, job[Field.TOGETHER], job[Field.LAST])


@compile_loop
def _put_codes(job: Job, states: Numbers) -> None:
    filled, rows = job[Field.FILLED], _padded_rows(job)
    groups = rows * job[Field.GROUPS]
    sizes = (filled, job[Field.GROUP], job[Field.TOGETHER], job[Field.LAST], job[Field.ZERO])
    quantize(
        states,
        sizes,
        _numba.carray(as_pointer(job[Field.STATES]), rows * filled, np.int16),
        _numba.carray(as_pointer(job[Field.ZEROS]), groups, np.int32),
        _numba.carray(as_pointer(job[Field.UNITS]), groups, np.float32),
        _numba.carray(as_pointer(job[Field.TOTALS]), groups, np.float32),
    )


@compile_loop
def _padded_rows(job: Job) -> int:
    """With those of zeros behind the last."""
    rows: int = (job[Field.ROWS] - 1) // job[Field.TOGETHER] * job[Field.TOGETHER] + job[Field.LAST]
    return rows


def rows_together(width: Width, kind: Kind) -> tuple[int, int, int, int]:
    """How many rows may pass over weights at a time."""
    return width.number_rows if kind[0] == NUMBER_BITS else width.code_rows


def loop_codes(width: Width, kind: Kind) -> tuple[int, ...]:
    """Of the `Loop`s for `rows_together`."""
    loops = (
        Loop(width.lanes, width.vectors, width.tiles(rows, kind[0]), rows, *kind)
        for rows in rows_together(width, kind)
    )
    return tuple(loop.code for loop in loops)


@compile_loop
def claim_tiles(job: Job, result: Numbers, one: int, few: int, some: int, most: int) -> None:
    """Claims tiles until there are none, and multiplies each by one block of rows after another.

    The last four are codes of `Loop`s.
    """
    tiles = job[Field.TILES_TOGETHER]
    sums = np.empty(job[Field.BLOCK] * tiles * job[Field.TILE_OUTPUTS], np.float32)
    while True:
        first = fetch_add(job.ctypes.data, job[Field.GRAIN])
        if first >= job[Field.TILES]:
            break
        behind = min(first + job[Field.GRAIN], job[Field.TILES])
        for row in range(0, job[Field.ROWS], job[Field.BLOCK]):
            block = (row, min(row + job[Field.BLOCK], job[Field.ROWS]))
            for start in range(first, behind, tiles):
                # The last ones may be others' too, who write the same.
                tile = max(0, min(start, behind - tiles))
                sums[:] = 0
                place = (np.int64(sums.ctypes.data), tile)
                _add_products(
                    job,
                    place,
                    block,
                    _numba.literally(one),
                    _numba.literally(few),
                    _numba.literally(some),
                    _numba.literally(most),
                )
                _put(job, sums, result, tile, block)


@compile_loop
def _put(
    job: Job,
    sums: npt.NDArray[np.float32],
    result: Numbers,
    tile: int,
    block: tuple[int, int],
) -> None:
    """Writes the sums of tiles, (groups of rows, tiles, rows, outputs), into the result."""
    outputs, together, start = job[Field.TILE_OUTPUTS], job[Field.TOGETHER], 0
    for first in range(block[0], block[1], together):
        rows = together if first + together < job[Field.ROWS] else job[Field.LAST]
        for each in range(job[Field.TILES_TOGETHER]):
            column = (tile + each) * outputs
            width = min(outputs, job[Field.OUTPUTS] - column)
            for row in range(first, first + rows):
                if row < job[Field.ROWS]:
                    for output in range(width):
                        place = job[Field.FIRST] + column + output
                        result[row, place] = narrow(sums[start + output], result)
                start += outputs


def _add_products(
    job: Job,
    place: tuple[np.int64, int],
    block: tuple[int, int],
    one: int,
    few: int,
    some: int,
    most: int,
) -> None:
    """Adds to sums at an address those of a tile and the following, by rows from one to another."""
    raise NotImplementedError("only compiled code calls this")


@overload(_add_products, prefer_literal=True)
def _compile_products(
    job: Any,  # noqa: ANN401, ARG001 - types of numba's, which asks by name
    place: Any,  # noqa: ANN401, ARG001
    block: Any,  # noqa: ANN401, ARG001
    one: Any,  # noqa: ANN401
    few: Any,  # noqa: ANN401, ARG001
    some: Any,  # noqa: ANN401, ARG001
    most: Any,  # noqa: ANN401, ARG001
) -> Any:  # noqa: ANN401
    if not isinstance(one, numba.types.IntegerLiteral):
        return None
    return _add_numbers if Loop.of(one.literal_value).bits == NUMBER_BITS else _add_groups


def _add_numbers(
    job: Any,  # noqa: ANN401 - as above
    place: Any,  # noqa: ANN401
    block: Any,  # noqa: ANN401
    one: Any,  # noqa: ANN401
    few: Any,  # noqa: ANN401
    some: Any,  # noqa: ANN401
    most: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    sums, tile = place
    weights, tile_bytes = job[Field.WEIGHTS] + tile * job[Field.TILE_BYTES], job[Field.TILE_BYTES]
    word_bytes, together = job[Field.TILE_OUTPUTS] * _WORD_BYTES, job[Field.TOGETHER]
    step, ahead = BLOCK_BYTES // word_bytes, job[Field.AHEAD]
    for word in range(0, job[Field.WORDS], step):
        count = min(step, job[Field.WORDS] - word)
        start, total = weights + word * word_bytes, sums
        for row in range(block[0], block[1], together):
            rows = together if row + together < job[Field.ROWS] else job[Field.LAST]
            states = job[Field.STATES] + row * job[Field.STATE_BYTES]
            states += word * 2 * rows * _WORD_BYTES
            if rows == rows_of(most):
                add_bfloat16(total, start, tile_bytes, states, count, ahead, most)
            elif rows == rows_of(some):
                add_bfloat16(total, start, tile_bytes, states, count, ahead, some)
            elif rows == rows_of(few):
                add_bfloat16(total, start, tile_bytes, states, count, ahead, few)
            else:
                add_bfloat16(total, start, tile_bytes, states, count, ahead, one)
            total += rows * job[Field.TILES_TOGETHER] * word_bytes


def _add_groups(
    job: Any,  # noqa: ANN401 - as above
    place: Any,  # noqa: ANN401
    block: Any,  # noqa: ANN401
    one: Any,  # noqa: ANN401
    few: Any,  # noqa: ANN401
    some: Any,  # noqa: ANN401
    most: Any,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    sums, tile = place
    word_bytes, together = job[Field.TILE_OUTPUTS] * _WORD_BYTES, job[Field.TOGETHER]
    step = max(1, BLOCK_BYTES // (job[Field.WORDS] * word_bytes))
    for group in range(0, job[Field.GROUPS], step):
        behind, total = min(group + step, job[Field.GROUPS]), sums
        for row in range(block[0], block[1], together):
            rows = together if row + together < job[Field.ROWS] else job[Field.LAST]
            memory = _memory(job, total, tile, row, group, behind)
            if rows == rows_of(most):
                add_codes(memory, most)
            elif rows == rows_of(some):
                add_codes(memory, some)
            elif rows == rows_of(few):
                add_codes(memory, few)
            else:
                add_codes(memory, one)
            total += rows * job[Field.TILES_TOGETHER] * word_bytes


@compile_loop
def _memory(job: Job, sums: int, tile: int, row: int, first: int, behind: int) -> tuple[int, ...]:
    """`microkernels._Memory`: of the groups from one to another, of a tile and of some rows."""
    per_group = row * job[Field.GROUPS] * _WORD_BYTES
    return (
        sums,
        job[Field.WEIGHTS] + tile * job[Field.TILE_BYTES],
        job[Field.TILE_BYTES],
        job[Field.TABLE],
        job[Field.STATES] + row * job[Field.STATE_BYTES],
        job[Field.ZEROS] + per_group,
        job[Field.UNITS] + per_group,
        job[Field.TOTALS] + per_group,
        job[Field.SCALES] + tile * job[Field.SCALE_BYTES],
        job[Field.MINIMUMS] + tile * job[Field.SCALE_BYTES],
        job[Field.SCALE_BYTES],
        job[Field.OUTER_SCALES] + tile * job[Field.OUTER_BYTES],
        job[Field.OUTER_MINIMUMS] + tile * job[Field.OUTER_BYTES],
        job[Field.OUTER_BYTES],
        job[Field.OUTER_GROUPS],
        first,
        behind,
        job[Field.WORDS],
        job[Field.AHEAD],
    )
