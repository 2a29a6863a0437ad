"""Weights in tiles of our own, bfloat16 or codes of four and eight bits, and products by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from tandem.engine.backends.pytorch.kernels.arrays import IntArray
from tandem.engine.backends.pytorch.kernels.tiled import activations, team
from tandem.engine.backends.pytorch.kernels.tiled.codes import GroupCodes, Part
from tandem.engine.backends.pytorch.kernels.tiled.loops import (
    Field,
    Job,
    Kind,
    compiled_for,
    preparation_for,
    rows_together,
)
from tandem.engine.backends.pytorch.kernels.tiled.vectors import NUMBER_BITS, WIDTH, Width
from tandem.engine.backends.pytorch.kernels.tiles import in_large_pages
from tandem.engine.checkpoint.quantized.tensor import Floats

#: States of a block of rows, which stay in the second cache while tiles pass by.
_BLOCK_STATE_BYTES = 384 * 1024
#: A thread claims tiles so often: the fewer are left in the end, the less it waits for others.
_CLAIMS = 8
#: Weights that one thread multiplies sooner than it wakes others.
_ALONE_BYTES = 128 * 1024
#: Few rows fetch the tiles that come next; of long ones, what is so far ahead.
_MOST_AHEAD_BYTES = 64 * 1024
#: As many rows as decode together.
_KEPT_ROWS = 16

Kept = TypeVar("Kept", bound=np.generic)
Words = npt.NDArray[np.int32]


@dataclass(frozen=True)
class _Grouping:
    """How many rows pass over the weights together, how many do in the end, and in a block."""

    together: int
    last: int
    padded: int
    block: int

    @classmethod
    @lru_cache(maxsize=256)
    def of(cls, rows: int, sizes: tuple[int, int, int, int], row_bytes: int) -> _Grouping:
        passes = -(-rows // sizes[-1])
        together = next(size for size in sizes if size * passes >= rows)
        before = (-(-rows // together) - 1) * together
        least = max(rows - before, sizes[-2]) if before else rows
        last = next(size for size in sizes if size >= least)
        block = max(1, _BLOCK_STATE_BYTES // row_bytes // together) * together
        padded = before + last
        return cls(together, last, padded, min(block, -(-padded // together) * together))


@dataclass(frozen=True)
class _Call:
    """All that does not change between products of as many rows of one dtype."""

    job: Job
    address: int
    memory: tuple[Part, ...]  # whose addresses the job has
    prepare: Callable[[int], None]
    run: Callable[[int], None]

    def aim(self, states: torch.Tensor, result: torch.Tensor, first: int = 0) -> None:
        """At contiguous states, and the columns of a result from `first` on."""
        self.job[Field.INPUT], self.job[Field.FIRST] = states.data_ptr(), first
        self.job[Field.RESULT], self.job[Field.RESULT_WIDTH] = result.data_ptr(), result.shape[1]

    def __call__(self) -> None:
        self.prepare(self.address)
        self.run(self.address)


class TiledWeight:
    """A (outputs, inputs) matrix in tiles, and the products by it."""

    def __init__(self, shape: tuple[int, int], words: Words, width: Width, kind: Kind) -> None:
        """`words` are (tiles, words of an output, outputs of a tile)."""
        self.shape = shape
        self.words = words
        self.width, self.kind = width, kind
        self._calls: dict[tuple[int, torch.dtype, torch.dtype, int], _Call] = {}
        self._job: Job = np.zeros(len(Field), np.int64)
        self.say(
            TILES=len(words),
            TILE_OUTPUTS=width.outputs,
            WEIGHTS=words.ctypes.data,
            TILE_BYTES=words[0].nbytes,
            WORDS=words.shape[1],
            GROUPS=1,
            OUTER_GROUPS=1,
            INPUTS=shape[1],
            OUTPUTS=shape[0],
        )

    def say(self, **fields: int) -> None:
        """Sets fields of every job."""
        for name, value in fields.items():
            self._job[Field[name]] = value

    def multiply(self, states: torch.Tensor, result: torch.Tensor, first: int = 0) -> torch.Tensor:
        """(rows, inputs) → the columns of (rows, n) `result` from `first` on.

        Both are float32 or bfloat16, which may differ. One thread at a time may call this.
        """
        states = states.contiguous()
        call = self._call(len(states), states.dtype, result.dtype)
        call.aim(states, result, first)
        call()
        return result

    def repeated(self, states: torch.Tensor, result: torch.Tensor) -> Callable[[], object]:
        """What multiplies whatever is in contiguous states then, into the same result each time.

        Few rows are multiplied in less time than Python takes to say where everything is.
        """
        call = self._make_call(len(states), states.dtype, result.dtype)
        call.aim(states, result)
        return call

    def _call(self, rows: int, dtype: torch.dtype, result: torch.dtype) -> _Call:
        """A call for so many rows. Those for few are kept, as making one takes time."""
        key = (rows, dtype, result, torch.get_num_threads())
        call = self._calls.get(key)
        if call is None:
            call = self._make_call(rows, dtype, result)
            if rows <= _KEPT_ROWS:
                self._calls[key] = call
        return call

    def _make_call(self, rows: int, dtype: torch.dtype, result: torch.dtype) -> _Call:
        job, grouping, threads = self._plan(rows)
        memory = self._make_states(job, grouping)
        prepare = preparation_for(self.kind[0] == NUMBER_BITS, dtype == torch.bfloat16)
        function = compiled_for(self.width, self.kind, result == torch.bfloat16)
        entries = team.entry(prepare, 1), team.entry(function, threads)
        return _Call(job, job.ctypes.data, memory, *entries)

    @property
    def layout(self) -> tuple[int, int, int]:
        """Inputs of a row as it is kept, inputs of a group, and what a code is above its number."""
        raise NotImplementedError

    def plan(self, rows: int) -> tuple[Job, int]:
        """A job for so many rows, without their states and results; what they are filled up to."""
        job, grouping, _ = self._plan(rows)
        return job, grouping.padded

    def _plan(self, rows: int) -> tuple[Job, _Grouping, int]:
        """And for so many threads."""
        sizes = rows_together(self.width, self.kind)
        grouping = _Grouping.of(rows, sizes, self._row_bytes())
        job = self._job.copy()
        threads = self._divide(job, grouping)
        job[Field.ROWS], job[Field.BLOCK] = rows, grouping.block
        job[Field.TOGETHER], job[Field.LAST] = grouping.together, grouping.last
        return job, grouping, threads

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        """(n,) → (n, inputs): the weights of those outputs, as they are kept."""
        raise NotImplementedError

    def _divide(self, job: Job, grouping: _Grouping) -> int:
        """Says how many tiles are claimed at a time; for so many threads."""
        together = self.width.tiles(grouping.together, self.kind[0])
        pieces = -(-len(self.words) // together)
        small = self.words.nbytes * grouping.padded < _ALONE_BYTES
        threads = 1 if small else team.threads_for(pieces)
        claims = 1 if threads == 1 else threads * _CLAIMS
        job[Field.TILES_TOGETHER] = together
        job[Field.AHEAD] = min(together * self.words[0].nbytes, _MOST_AHEAD_BYTES)
        job[Field.GRAIN] = -(-pieces // claims) * together
        return threads

    def _row_bytes(self) -> int:
        """Of a row's states."""
        raise NotImplementedError

    def _make_states(self, job: Job, grouping: _Grouping) -> tuple[Part, ...]:
        """Memory for states in the order in which they are read, of which it tells the job."""
        raise NotImplementedError


class TiledNumbers(TiledWeight):
    """bfloat16, multiplied in float32."""

    def __init__(self, weight: torch.Tensor, width: Width = WIDTH) -> None:
        """`weight` is bfloat16 (outputs, inputs)."""
        outputs, inputs = weight.shape
        shorts = weight.contiguous().view(torch.int16).numpy()
        padded = np.zeros((_padded(outputs, width), -(-inputs // 2) * 2), np.int16)
        padded[:outputs, :inputs] = shorts
        words = _tiles(padded.view(np.int32), width)
        super().__init__((outputs, inputs), words, width, (NUMBER_BITS, 0, 0, 0))
        self.say(STATE_BYTES=self._row_bytes(), FILLED=2 * words.shape[1])

    @property
    def layout(self) -> tuple[int, int, int]:
        inputs = 2 * int(self.words.shape[1])
        return inputs, inputs, 0

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        tile, output = np.divmod(indices.numpy(), self.width.outputs)
        pairs = torch.from_numpy(self.words[tile, :, output])
        return pairs.view(torch.bfloat16)[:, : self.shape[1]]

    def _row_bytes(self) -> int:
        return 2 * 4 * int(self.words.shape[1])

    def _make_states(self, job: Job, grouping: _Grouping) -> tuple[Part, ...]:
        wide = np.zeros(grouping.padded * self.words.shape[1] * 2, np.float32)
        job[Field.STATES] = wide.ctypes.data
        return (wide,)


class TiledCodes(TiledWeight):
    """Codes with scales of groups, multiplied as integers by activations of 16 bits.

    Those of float32 lose nothing if it is to be `exact`: what 16 bits leave is multiplied too.
    """

    def __init__(self, codes: GroupCodes, width: Width = WIDTH, *, exact: bool = True) -> None:
        self._exact = exact
        self._inputs: int = codes.codes.shape[1]
        outputs = len(codes.codes)
        self._codes = _without_numbers(codes)  # those are kept as tiles
        padded = np.zeros((_padded(outputs, width), self._inputs), np.uint8)
        padded[:outputs] = codes.codes
        self._scales = [
            None if part is None else _tiles(_more_rows(part, len(padded)), width)
            for part in (codes.scales, codes.minimums, codes.outer_scales, codes.outer_minimums)
        ]
        self._table = np.tile(codes.table, 4) if codes.table is not None else None
        words = _tiles(_packed(padded, codes.bits), width)
        super().__init__((outputs, codes.inputs), words, width, codes.kind)
        scales, minimums, outer_scales, outer_minimums = self._scales
        self.say(
            STATE_BYTES=self._row_bytes(),
            FILLED=self._inputs,
            GROUP=codes.group,
            ZERO=codes.zero,
            WORDS=codes.group * codes.bits // 32,
            GROUPS=self._inputs // codes.group,
            SCALES=_address(scales),
            MINIMUMS=_address(minimums),
            SCALE_BYTES=_tile_bytes(scales),
            OUTER_SCALES=_address(outer_scales),
            OUTER_MINIMUMS=_address(outer_minimums),
            OUTER_BYTES=_tile_bytes(outer_scales),
            OUTER_GROUPS=codes.outer_groups,
            TABLE=_address(self._table),
        )

    @property
    def layout(self) -> tuple[int, int, int]:
        return self._inputs, self._codes.group, self._codes.zero

    def rows(self, indices: torch.Tensor) -> torch.Tensor:
        """float32, as the file's numbers are."""
        where = np.divmod(indices.numpy(), self.width.outputs)
        numbers = self._integers(*where).astype(np.float32)
        grouped = numbers.reshape(len(numbers), -1, self._codes.group)
        scales, minimums, outer_scales, outer_minimums = (
            None if part is None else part[where[0], :, where[1]].astype(np.float32)
            for part in self._scales
        )
        for inner, outer, combine in (
            (scales, outer_scales, np.multiply),
            (minimums, outer_minimums, np.add),
        ):
            if inner is not None:
                combine(grouped, self._of_inputs(inner, outer), out=grouped)
        return torch.from_numpy(grouped.reshape(numbers.shape)[:, : self.shape[1]])

    def multiply(self, states: torch.Tensor, result: torch.Tensor, first: int = 0) -> torch.Tensor:
        """As above. To be exact, two halves of float32 are multiplied, of 16 bits each."""
        if states.dtype != torch.float32 or not self._exact:
            return super().multiply(states, result, first)
        rows, outputs = len(states), self.shape[0]
        halves = torch.empty((2 * rows, states.shape[1]))
        activations.halve(states.numpy(), self._codes.group, halves.numpy())
        products = super().multiply(halves, torch.empty((2 * rows, outputs)))
        result[:, first : first + outputs] = products[:rows] + products[rows:]
        return result

    def repeated(self, states: torch.Tensor, result: torch.Tensor) -> Callable[[], object]:
        if states.dtype != torch.float32 or not self._exact:
            return super().repeated(states, result)
        rows, outputs = len(states), self.shape[0]
        halves, products = (
            torch.empty((2 * rows, states.shape[1])),
            torch.empty((2 * rows, outputs)),
        )
        multiply = super().repeated(halves, products)
        arrays = states.numpy(), self._codes.group, halves.numpy()

        def call() -> None:
            activations.halve(*arrays)
            multiply()
            torch.add(products[:rows], products[rows:], out=result)

        return call

    def _integers(self, tile: IntArray, output: IntArray) -> npt.NDArray[np.int64]:
        """What the codes of some outputs stand for."""
        bits, table = self._codes.bits, self._codes.table
        shorts = self.words[tile, :, output].view(np.uint16).reshape(len(tile), -1, 1, 2)
        places = np.arange(0, 16, bits, dtype=np.uint16)[:, None]
        codes = (shorts >> places & np.uint16((1 << bits) - 1)).reshape(len(tile), -1)
        return (codes if table is None else table[codes]).astype(np.int64) - self._codes.zero

    def _of_inputs(self, inner: Floats, outer: Floats | None) -> Floats:
        """(rows, groups) as factors of (rows, groups, inputs of one)."""
        if outer is not None:
            inner = inner * np.repeat(outer, self._codes.outer_groups, axis=1)
        return inner[:, :, None]

    def _row_bytes(self) -> int:
        return 2 * self._inputs

    def _make_states(self, job: Job, grouping: _Grouping) -> tuple[Part, ...]:
        rows, groups = grouping.padded, self._inputs // self._codes.group
        shorts, zeros = np.zeros(rows * self._inputs, np.int16), np.zeros(rows * groups, np.int32)
        units, totals = np.zeros((2, rows * groups), np.float32)
        job[Field.STATES], job[Field.ZEROS] = shorts.ctypes.data, zeros.ctypes.data
        job[Field.UNITS], job[Field.TOTALS] = units.ctypes.data, totals.ctypes.data
        return shorts, zeros, units, totals


def _without_numbers(codes: GroupCodes) -> GroupCodes:
    """With no rows; copied, for a view would keep all of them."""
    return replace(
        codes,
        codes=codes.codes[:0].copy(),
        scales=codes.scales[:0].copy(),
        minimums=None if codes.minimums is None else codes.minimums[:0].copy(),
        outer_scales=None if codes.outer_scales is None else codes.outer_scales[:0].copy(),
        outer_minimums=None if codes.outer_minimums is None else codes.outer_minimums[:0].copy(),
    )


def _padded(outputs: int, width: Width) -> int:
    """Whole tiles, as many at least as are multiplied at a time."""
    tiles = max(-(-outputs // width.outputs), width.tiles(1, NUMBER_BITS))
    return tiles * width.outputs


def _tiles(rows: npt.NDArray[Kept], width: Width) -> npt.NDArray[Kept]:
    """(outputs, n) → (tiles, n, outputs of a tile)."""
    grouped = rows.reshape(-1, width.outputs, rows.shape[1])
    tiles = np.ascontiguousarray(grouped.transpose(0, 2, 1))
    in_large_pages(tiles)
    return tiles


def _more_rows(part: npt.NDArray[np.generic], rows: int) -> npt.NDArray[np.generic]:
    padded = np.zeros((rows, part.shape[1]), part.dtype)
    padded[: len(part)] = part
    return padded


def _packed(codes: npt.NDArray[np.uint8], bits: int) -> Words:
    """(outputs, inputs) → words: each short has every other of its inputs, the first lowest."""
    fields = 16 // bits
    parts = codes.reshape(len(codes), -1, fields, 2).astype(np.uint16)
    shorts = np.zeros((len(codes), parts.shape[1], 2), np.uint16)
    for field in range(fields):
        shorts |= parts[:, :, field] << np.uint16(field * bits)
    return shorts.reshape(len(codes), -1).view(np.int32)


def _address(array: npt.NDArray[np.generic] | None) -> int:
    return 0 if array is None else int(array.ctypes.data)


def _tile_bytes(array: npt.NDArray[np.generic] | None) -> int:
    return 0 if array is None else int(array[0].nbytes)
