"""Matrices of few bits a number, in one layout whatever the file's: codes, a table, scales.

A number is `table[code] * scale + minimum`, the last two shared by a group of a row's columns. With
sixteen codes that is Q4_0, Q4_1, Q4_K, IQ4_NL, AWQ, GPTQ, MLX, MXFP4 and NF4; all other widths are
kept as codes of eight bits, FP8 by a table of 256. Nothing is rounded on the way into it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tandem.engine.checkpoint.sharding import Span

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8 | np.int8]
Integers = npt.NDArray[np.integer]

NIBBLE, BYTE = 4, 8


@dataclass(frozen=True)
class Scales:
    """(rows, groups) numbers; where there is `inner`, each is an integer times one of `outer`.

    `outer` is float32 (rows, groups of `inner`'s columns), `inner` integers (rows, groups).
    """

    outer: Floats
    inner: Integers | None = None

    @property
    def groups(self) -> int:
        return int((self.outer if self.inner is None else self.inner).shape[1])

    def values(self) -> Floats:
        """float32 (rows, groups): a product of two is rounded once."""
        if self.inner is None:
            return self.outer
        each = self.groups // self.outer.shape[1]
        return np.repeat(self.outer, each, axis=1) * self.inner.astype(np.float32)

    def rows(self, index: slice | Integers) -> Scales:
        return Scales(self.outer[index], None if self.inner is None else self.inner[index])

    def take(self, groups: Integers) -> Scales:
        """Those of the named groups, in that order, which may repeat."""
        if self.inner is None:
            return Scales(self.outer[:, groups])
        each = self.groups // self.outer.shape[1]
        outer, firsts = groups // each, groups[::each]
        whole = np.add.outer(firsts // each * each, np.arange(each)).reshape(-1)
        if np.array_equal(groups, whole):  # all of some of the outer groups
            outer = firsts // each
        return Scales(self.outer[:, outer], self.inner[:, groups])


@dataclass(frozen=True)
class QuantizedTensor:
    """A (rows, columns) matrix.

    `codes` of four bits are uint8 (rows, columns / 2), the even column in the low half; of eight
    bits (rows, columns), uint8 with a `table`, else int8. `table` is float32 of 16 or 256 numbers;
    without one a code is the number itself. `minimums` None are zeros. With an `order`, int64
    (columns,), the column i is that of the input `order[i]`; an input's later columns are zeros,
    which fill up a group.
    """

    codes: Codes
    bits: int
    group: int
    scales: Scales
    minimums: Scales | None = None
    table: Floats | None = None
    order: npt.NDArray[np.int64] | None = None

    @property
    def shape(self) -> tuple[int, int]:
        rows, width = self.codes.shape
        return rows, width * BYTE // self.bits

    @property
    def nbytes(self) -> int:
        parts = [self.codes, self.scales.outer, self.scales.inner]
        if self.minimums is not None:
            parts += [self.minimums.outer, self.minimums.inner]
        return sum(part.nbytes for part in parts if part is not None)

    @np.errstate(over="ignore", invalid="ignore")
    def dequantize(self) -> Floats:
        """float32 (rows, inputs), in the order of the inputs; what is too large is infinite."""
        rows, columns = self.shape
        codes = self.unpacked()
        numbers = codes.astype(np.float32) if self.table is None else self.table[codes]
        grouped = numbers.reshape(rows, columns // self.group, self.group)
        grouped *= self.scales.values()[:, :, None]
        if self.minimums is not None:
            grouped += self.minimums.values()[:, :, None]
        numbers = grouped.reshape(rows, columns)
        if self.order is None:
            return numbers
        return numbers[:, np.unique(self.order, return_index=True)[1]]

    def unpacked(self) -> Codes:
        """(rows, columns) codes, a byte each."""
        if self.bits == BYTE:
            return self.codes
        halves = np.stack((self.codes & 0x0F, self.codes >> 4), axis=-1)
        return halves.reshape(self.shape)

    def widened(self) -> QuantizedTensor:
        """The same numbers by codes of eight bits."""
        if self.bits == BYTE:
            return self
        codes = self.unpacked()
        if self.table is None:
            return replace(self, codes=codes.astype(np.int8), bits=BYTE)
        table = np.zeros(256, np.float32)
        table[:16] = self.table
        return replace(self, codes=codes, bits=BYTE, table=table)

    def rows(self, index: Span | slice | Integers) -> QuantizedTensor:
        """A run of rows, or the named ones in that order. Runs are views."""
        where = slice(index.start, index.stop) if isinstance(index, Span) else index
        minimums = None if self.minimums is None else self.minimums.rows(where)
        return replace(
            self, codes=self.codes[where], scales=self.scales.rows(where), minimums=minimums
        )

    def columns(self, span: Span) -> QuantizedTensor:
        """A run of columns. Groups that it cuts become several smaller ones of the same scale.

        Raises ValueError with an `order`: a run of inputs is then no run of columns.
        """
        if self.order is not None:
            raise ValueError("columns that have an order cannot be cut")
        if self.bits == NIBBLE and (span.start % 2 or span.stop % 2):
            return self.widened().columns(span)
        regrouped = self.regrouped(math.gcd(self.group, span.start, span.stop))
        groups = np.arange(span.start // regrouped.group, span.stop // regrouped.group)
        each = BYTE // self.bits
        minimums = regrouped.minimums
        return replace(
            regrouped,
            codes=self.codes[:, span.start // each : span.stop // each],
            scales=regrouped.scales.take(groups),
            minimums=None if minimums is None else minimums.take(groups),
        )

    def regrouped(self, group: int) -> QuantizedTensor:
        """The same numbers in groups of so many columns, which divides `self.group`."""
        if group == self.group:
            return self
        each = self.group // group
        repeated = np.repeat(np.arange(self.scales.groups), each)
        minimums = None if self.minimums is None else self.minimums.take(repeated)
        return replace(self, group=group, scales=self.scales.take(repeated), minimums=minimums)


def stacked(parts: Sequence[QuantizedTensor]) -> QuantizedTensor | None:
    """One matrix of the rows of all, in order; None where their codes do not mean the same."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if not all(_alike(first, part) for part in parts[1:]):
        return None
    group = math.gcd(*(part.group for part in parts))
    parts = [part.regrouped(group) for part in parts]
    minimums = [part.minimums for part in parts if part.minimums is not None]
    return replace(
        first,
        group=group,
        codes=np.concatenate([part.codes for part in parts]),
        scales=_stacked_scales([part.scales for part in parts]),
        minimums=_stacked_scales(minimums) if minimums else None,
    )


def _alike(one: QuantizedTensor, other: QuantizedTensor) -> bool:
    def same(a: npt.NDArray[np.generic] | None, b: npt.NDArray[np.generic] | None) -> bool:
        return (a is None and b is None) or (
            a is not None and b is not None and np.array_equal(a, b)
        )

    return (
        one.bits == other.bits
        and one.shape[1] == other.shape[1]
        and same(one.table, other.table)
        and same(one.order, other.order)
        and (one.minimums is None) == (other.minimums is None)
    )


def _stacked_scales(parts: Sequence[Scales]) -> Scales:
    inners = [part.inner for part in parts if part.inner is not None]
    outers = {part.outer.shape[1] for part in parts}
    if len(inners) != len(parts) or len(outers) > 1:
        return Scales(np.concatenate([part.values() for part in parts]))
    return Scales(np.concatenate([part.outer for part in parts]), np.concatenate(inners))
