"""The inner loops of products by tiles: sums in registers, a few rows by some words of weights.

`loops` calls them. A tile is (words, outputs) of 32 bits: for each word, which is some inputs of
one output, the outputs follow one another. Addresses are int64; what is compiled in is a literal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from tandem.engine.backends.pytorch.kernels.compiled import compile_loop
from tandem.engine.backends.pytorch.kernels.tiled.vectors import (
    ADDRESS,
    Vectors,
    number,
)

Emitted = tuple[Any, Callable[..., Any]] | None
_WORD_BYTES = 4
_LINE_BYTES = 64
_FEW_ROWS = 2
_PART_BITS = 6
_SHORT_BITS = 16
#: How scales are kept: as numbers, or as integers times a number that several groups share.
FLOAT32, FLOAT16, INTEGERS = range(3)
_SCALE_KINDS = {
    FLOAT32: ir.FloatType(),
    FLOAT16: ir.HalfType(),
    INTEGERS: ir.IntType(8),
}


class Loop(NamedTuple):
    """What is compiled into a loop: so many rows by `tiles` tiles of `vectors` vectors of `lanes`.

    And how weights are kept: in 16 bits as bfloat16, else as codes, of which a table says what they
    mean if `looked_up`, with scales and, if so, `minimums` of the kind that `scales` is.
    """

    lanes: int
    vectors: int
    tiles: int
    rows: int
    bits: int
    looked_up: int = False
    minimums: int = False
    scales: int = FLOAT32

    @property
    def code(self) -> int:
        """All of it as one number, which numba can know while it compiles."""
        code = 0
        for place, part in enumerate(self):
            code |= int(part) << place * _PART_BITS
        return code

    @classmethod
    def of(cls, code: int) -> Loop:
        places = range(len(cls._fields))
        return cls(*(code >> place * _PART_BITS & (1 << _PART_BITS) - 1 for place in places))

    @property
    def fields(self) -> int:
        """Codes in a short."""
        return _SHORT_BITS // self.bits

    def places(self) -> list[tuple[int, int, int]]:
        """(row, tile, vector) of each sum, row by row."""
        vectors = [(tile, vector) for tile in range(self.tiles) for vector in range(self.vectors)]
        return [(row, *place) for row in range(self.rows) for place in vectors]


_ROWS_PLACE = Loop._fields.index("rows")


class _Sums:
    """Sums of (rows, tiles, vectors) in registers; in memory they are (tiles, rows, outputs)."""

    def __init__(self, vectors: Vectors, loop: Loop, kind: Any) -> None:  # noqa: ANN401
        allocate: Any = cgutils.alloca_once
        self._vectors, self._loop = vectors, loop
        self._registers = {place: allocate(vectors.builder, kind) for place in loop.places()}

    def offset(self, row: int, tile: int, vector: int) -> int:
        """Of a sum in memory, in bytes."""
        before = (tile * self._loop.rows + row) * self._loop.vectors + vector
        return before * self._vectors.bytes

    def get(self, place: tuple[int, int, int]) -> Any:  # noqa: ANN401
        return self._vectors.builder.load(self._registers[place])

    def set(self, place: tuple[int, int, int], vector: Any) -> None:  # noqa: ANN401
        self._vectors.builder.store(vector, self._registers[place])


def _bfloat16(
    typing: object,  # noqa: ARG001
    sums: Any,  # noqa: ANN401 - types of numba's from here on
    weights: Any,  # noqa: ANN401
    tile_bytes: Any,  # noqa: ANN401
    states: Any,  # noqa: ANN401
    words: Any,  # noqa: ANN401
    ahead: Any,  # noqa: ANN401
    code: Any,  # noqa: ANN401
) -> Emitted:
    """Adds the products of `words` pairs of bfloat16 to float32 `sums`, (tiles, rows, outputs).

    `states` are float32 (2 * words, rows); `code` is that of a `Loop`.
    """
    if not isinstance(code, numba.types.IntegerLiteral):
        return None  # numba asks again with what it knows
    loop = Loop.of(code.literal_value)

    def generate(context: Any, builder: Any, _: object, given: Any) -> Any:  # noqa: ANN401
        _emit_bfloat16(Vectors(builder, loop.lanes), loop, *given[:-1])
        return context.get_dummy_value()

    return numba.types.void(sums, weights, tile_bytes, states, words, ahead, code), generate


def _emit_bfloat16(
    vectors: Vectors,
    loop: Loop,
    start: Any,  # noqa: ANN401 - values of llvmlite's
    weights: Any,  # noqa: ANN401
    tile_bytes: Any,  # noqa: ANN401
    states: Any,  # noqa: ANN401
    words: Any,  # noqa: ANN401
    ahead: Any,  # noqa: ANN401
) -> None:
    builder, sums = vectors.builder, _Sums(vectors, loop, vectors.floats)
    for place in loop.places():
        sums.set(place, vectors.load(start, sums.offset(*place), vectors.floats))
    tiles = _tile_starts(builder, weights, tile_bytes, loop)
    with cgutils.for_range(builder, words) as turn:
        loaded = _load_word(vectors, loop, tiles, turn.index, ahead)
        column = _after(builder, states, turn.index, 2 * loop.rows * _WORD_BYTES)
        for half in range(2):
            numbers = {where: vectors.halves(word)[half] for where, word in loaded.items()}
            for row in range(loop.rows):
                offset = (half * loop.rows + row) * _WORD_BYTES
                state = vectors.everywhere(column, offset, vectors.floats)
                for where, weight in numbers.items():
                    total = vectors.fused(state, weight, sums.get((row, *where)))
                    sums.set((row, *where), total)
    for place in loop.places():
        vectors.store(sums.get(place), start, sums.offset(*place))


class _Memory(NamedTuple):
    """Addresses, and what else a loop over codes is given."""

    sums: Any
    weights: Any
    tile_bytes: Any
    table: Any
    states: Any
    zeros: Any
    units: Any
    totals: Any
    scales: Any
    minimums: Any
    scale_bytes: Any
    outer_scales: Any
    outer_minimums: Any
    outer_bytes: Any
    outer_groups: Any
    first: Any
    behind: Any
    words: Any
    ahead: Any


def _codes(
    typing: object,  # noqa: ARG001
    memory: Any,  # noqa: ANN401 - types of numba's
    code: Any,  # noqa: ANN401
) -> Emitted:
    """Adds the products of the groups from `first` to `behind` to float32 `sums`.

    `memory` is a tuple of `_Memory`'s fields. A group is `words` words of a tile. `states` are
    pairs of int16, (pairs, rows); for each group and row, `zeros` is what the sum of its products
    starts with, `units` that of its states, `totals` the sum of its states as float32.
    """
    if not isinstance(code, numba.types.IntegerLiteral):
        return None
    loop = Loop.of(code.literal_value)

    def generate(context: Any, builder: Any, _: object, given: Any) -> Any:  # noqa: ANN401
        unpack: Any = cgutils.unpack_tuple
        addresses = _Memory(*unpack(builder, given[0]))
        _emit_codes(Vectors(builder, loop.lanes), loop, addresses)
        return context.get_dummy_value()

    return numba.types.void(memory, code), generate


def _emit_codes(vectors: Vectors, loop: Loop, memory: _Memory) -> None:
    builder = vectors.builder
    sums = _Sums(vectors, loop, vectors.words)
    table = vectors.load(memory.table, 0, vectors.octets) if loop.looked_up else None
    tiles = _tile_starts(builder, memory.weights, memory.tile_bytes, loop)
    with cgutils.for_range(builder, builder.sub(memory.behind, memory.first)) as turn:
        group = builder.add(memory.first, turn.index)
        word = builder.mul(group, memory.words)
        zeros = _after(builder, memory.zeros, group, loop.rows * _WORD_BYTES)
        for place in loop.places():
            sums.set(place, vectors.everywhere(zeros, place[0] * _WORD_BYTES, vectors.words))
        with cgutils.for_range(builder, memory.words) as step:
            which = builder.add(word, step.index)
            loaded = _load_word(vectors, loop, tiles, which, memory.ahead)
            _add_word(vectors, loop, sums, table, loaded, (memory.states, which))
        _scale_group(vectors, loop, sums, memory, group)


def _add_word(
    vectors: Vectors,
    loop: Loop,
    sums: _Sums,
    table: Any,  # noqa: ANN401
    loaded: dict[tuple[int, int], Any],
    where: tuple[Any, Any],
) -> None:
    """Adds the products of one word of each output; `where`: the states, and which word."""
    (states, word), builder = where, vectors.builder
    column = _after(builder, states, word, loop.fields * loop.rows * _WORD_BYTES)
    shorts = {place: builder.bitcast(each, vectors.shorts) for place, each in loaded.items()}
    for field in range(loop.fields):
        numbers = {place: vectors.field(each, field, loop.bits) for place, each in shorts.items()}
        if table is not None:
            numbers = {place: vectors.looked_up(table, each) for place, each in numbers.items()}
        for row in range(loop.rows):
            offset = (field * loop.rows + row) * _WORD_BYTES
            state = vectors.everywhere(column, offset, vectors.words)
            for place, weight in numbers.items():
                pairs = builder.bitcast(weight, vectors.words)
                total = vectors.add_pairs(sums.get((row, *place)), state, pairs)
                sums.set((row, *place), total)


def _scale_group(
    vectors: Vectors,
    loop: Loop,
    sums: _Sums,
    memory: _Memory,
    group: Any,  # noqa: ANN401
) -> None:
    """Adds a group's sums of integers, as numbers, to those in memory."""
    builder = vectors.builder
    rows = loop.rows * _WORD_BYTES
    units = _after(builder, memory.units, group, rows)
    totals = _after(builder, memory.totals, group, rows)
    scales = _scales(vectors, loop, memory, group, (memory.scales, memory.outer_scales))
    minimums = (
        _scales(vectors, loop, memory, group, (memory.minimums, memory.outer_minimums))
        if loop.minimums
        else {}
    )
    for row, *place in loop.places():
        where, offset = (place[0], place[1]), sums.offset(row, *place)
        unit = vectors.everywhere(units, row * _WORD_BYTES, vectors.floats)
        whole = builder.sitofp(sums.get((row, *where)), vectors.floats)
        scale = builder.fmul(scales[where], unit)
        total = vectors.fused(whole, scale, vectors.load(memory.sums, offset, vectors.floats))
        if loop.minimums:
            states = vectors.everywhere(totals, row * _WORD_BYTES, vectors.floats)
            total = vectors.fused(minimums[where], states, total)
        vectors.store(total, memory.sums, offset)


def _scales(
    vectors: Vectors,
    loop: Loop,
    memory: _Memory,
    group: Any,  # noqa: ANN401
    starts: tuple[Any, Any],
) -> dict[tuple[int, int], Any]:
    """The group's scales, or minimums, of all outputs, by tile and vector."""
    builder = vectors.builder
    kind = ir.VectorType(_SCALE_KINDS[loop.scales], loop.lanes)
    kept_bytes = {FLOAT32: 4, FLOAT16: 2, INTEGERS: 1}[loop.scales] * loop.lanes
    inner = _after(builder, starts[0], group, kept_bytes * loop.vectors)
    shared = builder.udiv(group, memory.outer_groups)
    outer = _after(builder, starts[1], shared, vectors.bytes * loop.vectors)
    found = {}
    for tile in range(loop.tiles):
        first = builder.add(inner, builder.mul(memory.scale_bytes, number(tile)))
        above = builder.add(outer, builder.mul(memory.outer_bytes, number(tile)))
        for vector in range(loop.vectors):
            scale = vectors.load(first, vector * kept_bytes, kind)
            if loop.scales == FLOAT16:
                scale = builder.fpext(scale, vectors.floats)
            elif loop.scales == INTEGERS:
                whole = builder.sitofp(builder.sext(scale, vectors.words), vectors.floats)
                shared_scale = vectors.load(above, vector * vectors.bytes, vectors.floats)
                scale = builder.fmul(whole, shared_scale)
            found[tile, vector] = scale
    return found


def _fetch_add(typing: object, address: Any, amount: Any) -> Emitted:  # noqa: ANN401, ARG001
    """What is at the address, to which `amount` is added, for all threads in one step."""

    def generate(_: object, builder: Any, __: object, given: Any) -> Any:  # noqa: ANN401
        place = builder.inttoptr(given[0], ir.PointerType(ADDRESS))
        return builder.atomic_rmw("add", place, given[1], "monotonic")

    return numba.types.int64(address, amount), generate


def _tile_starts(
    builder: Any,  # noqa: ANN401
    start: Any,  # noqa: ANN401
    tile_bytes: Any,  # noqa: ANN401
    loop: Loop,
) -> list[Any]:
    steps = (builder.mul(tile_bytes, number(tile)) for tile in range(loop.tiles))
    return [builder.add(start, step) for step in steps]


def _load_word(
    vectors: Vectors,
    loop: Loop,
    tiles: list[Any],
    word: Any,  # noqa: ANN401
    ahead: Any,  # noqa: ANN401
) -> dict[tuple[int, int], Any]:
    """That word of all outputs, by tile and vector.

    Few rows wait for weights; so what lies `ahead` of them is fetched meanwhile.
    """
    starts = [_after(vectors.builder, tile, word, loop.vectors * vectors.bytes) for tile in tiles]
    for start in starts if loop.rows <= _FEW_ROWS else []:
        for line in range(0, loop.vectors * vectors.bytes, _LINE_BYTES):
            vectors.prefetch(vectors.builder.add(start, ahead), line)
    return {
        (tile, vector): vectors.load(start, vector * vectors.bytes, vectors.words)
        for tile, start in enumerate(starts)
        for vector in range(loop.vectors)
    }


def _after(builder: Any, start: Any, count: Any, each_bytes: int) -> Any:  # noqa: ANN401
    """The address behind so many of so many bytes."""
    return builder.add(start, builder.mul(count, number(each_bytes)))


@compile_loop
def rows_of(code: int) -> int:
    """Of the `Loop` that has this code."""
    rows: int = code >> _ROWS_PLACE * _PART_BITS & (1 << _PART_BITS) - 1
    return rows


add_bfloat16: Any = intrinsic(prefer_literal=True)(_bfloat16)
add_codes: Any = intrinsic(prefer_literal=True)(_codes)
fetch_add: Any = intrinsic(_fetch_add)
