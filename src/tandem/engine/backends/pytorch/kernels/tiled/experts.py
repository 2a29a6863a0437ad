"""Experts of few rows by tiles of our own: all that a layer's rows have chosen, in one call.

Each chosen expert is a job of its own; threads go from one job to the next without waiting for one
another, so small matrices keep them as busy as a large one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import torch
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from tandem.engine.backends.pytorch.kernels.arrays import IntArray
from tandem.engine.backends.pytorch.kernels.compiled import (
    KEPT,
    Numbers,
    as_pointer,
    compile_loop,
    wide,
)
from tandem.engine.backends.pytorch.kernels.experts import Gating, add_biases, gate_rows
from tandem.engine.backends.pytorch.kernels.tiled import team
from tandem.engine.backends.pytorch.kernels.tiled.activations import quantize, widen
from tandem.engine.backends.pytorch.kernels.tiled.loops import (
    Field,
    Job,
    Kind,
    claim_tiles,
    loop_codes,
)
from tandem.engine.backends.pytorch.kernels.tiled.vectors import NUMBER_BITS, WORD, Width
from tandem.engine.backends.pytorch.kernels.tiled.weights import TiledWeight
from tandem.engine.checkpoint.quantized.tensor import Floats

#: With more rows one expert after the other has enough to do.
MOST_ROWS = 32
_FIELDS = len(Field)
_FIELD_BYTES = 8
_numba: Any = numba  # which does not say what it exports

Layout = tuple[int, int, int, int, int]
"""Bits, inputs of a row as it is kept and of a group, what a code is above its number, outputs."""

Table = tuple[Job, IntArray, Layout, int]
"""(experts, fields): what each one's jobs have in common; `PLAN` by the number of rows; the layout
of all; and the address of the function that takes several jobs."""

#: What of a job depends on its number of rows, and how many rows it is filled up to.
PLAN = (
    Field.ROWS,
    Field.TOGETHER,
    Field.LAST,
    Field.BLOCK,
    Field.TILES_TOGETHER,
    Field.GRAIN,
    Field.AHEAD,
)
_PLAN_FIELDS = tuple(int(field) for field in PLAN)

Spans = tuple[IntArray, IntArray]
"""Places of the experts that have rows, and where the rows of each begin, and of all end."""


@dataclass(frozen=True)
class ExpertTable:
    """The weights of experts, which are kept in one way and stay where they are."""

    weights: Sequence[TiledWeight]

    @property
    def outputs(self) -> int:
        return self.weights[0].shape[0]

    @property
    def is_uniform(self) -> bool:
        """Whether one call can take all of them."""
        return len({(each.shape, each.kind, each.layout) for each in self.weights}) == 1

    def compiled(self) -> Table:
        """For as many threads as PyTorch has."""
        first = self.weights[0]
        jobs = np.stack([weight.plan(1)[0] for weight in self.weights])
        plans = np.zeros((MOST_ROWS + 1, len(PLAN) + 1), np.int64)
        for rows in range(1, MOST_ROWS + 1):
            job, padded = first.plan(rows)
            plans[rows] = [*job[list(PLAN)], padded]
        function = _compiled_for(first.width, first.kind)
        return jobs, plans, (first.kind[0], *first.layout, first.shape[0]), function


@cache
def _compiled_for(width: Width, kind: Kind) -> int:
    """The address of the C function that takes several jobs, of which the first says how many.

    Results are bfloat16.
    """
    one, few, some, most = loop_codes(width, kind)

    def run(pointer: Any) -> None:  # noqa: ANN401 - a type of numba's
        count = _numba.carray(pointer, (_FIELDS,), np.int64)[0]
        jobs = _numba.carray(pointer, (count + 1, _FIELDS), np.int64)
        for number in range(1, count + 1):
            job = jobs[number]
            shape = (job[Field.ROWS], job[Field.RESULT_WIDTH])
            result: Numbers = _numba.carray(as_pointer(job[Field.RESULT]), shape, np.int16)
            claim_tiles(job, result, one, few, some, most)

    signature = numba.types.void(numba.types.voidptr)
    function = _numba.cfunc(signature, cache=KEPT, error_model="numpy")(run)
    address: int = function.address
    return address


def _enter(typing: object, parallel: Any, function: Any, argument: Any, threads: Any) -> Any:  # noqa: ANN401, ARG001
    """Calls the function with an address, on so many threads by `team.parallel_address`."""

    def generate(context: Any, builder: Any, _: object, given: Any) -> Any:  # noqa: ANN401
        byte, nothing = cgutils.voidptr_t, ir.VoidType()
        one = ir.FunctionType(nothing, [byte])
        all_of = ir.FunctionType(nothing, [byte, byte, WORD, WORD])
        address = builder.inttoptr(given[2], byte)
        with builder.if_else(builder.icmp_signed("==", given[3], given[3].type(1))) as (
            alone,
            many,
        ):
            with alone:
                builder.call(builder.inttoptr(given[1], one.as_pointer()), [address])
            with many:
                count, flags = builder.trunc(given[3], WORD), WORD(0)
                entry = builder.inttoptr(given[0], all_of.as_pointer())
                builder.call(entry, [builder.inttoptr(given[1], byte), address, count, flags])
        return context.get_dummy_value()

    whole = numba.types.int64
    return numba.types.void(whole, whole, whole, whole), generate


_enter_team: Any = intrinsic(_enter)


@compile_loop
def add_tiled_experts(
    tables: tuple[Table, Table],
    biases: tuple[Numbers, Numbers],
    gating: Gating,
    states: Numbers,
    chosen: tuple[IntArray, Floats],
    first: int,
    threads: tuple[int, int],
    totals: Floats,
) -> None:
    """As `kernels.experts.add_experts`, of (rows, hidden) states that are bfloat16.

    `tables` are those of gates and ups, and of downs; `threads` their number and
    `team.parallel_address`.
    """
    whose, factors, spans = _rows_of_experts(chosen, first, len(tables[0][0]))
    count, hidden = len(whose), states.shape[1]
    both = np.empty((count, tables[0][2][4]), np.int16)
    gated = np.empty((count, both.shape[1] // 2), np.int16)
    results = np.empty((count, hidden), np.int16)
    gathered = np.empty((count, hidden), np.int16)
    if len(states) > 1:
        for place in range(count):
            gathered[place] = states[whose[place]]
        _multiply(tables[0], spans, gathered, threads, both)
    else:
        _multiply(tables[0], spans, states, threads, both)
    _add_all_biases(biases[0], spans, both)
    gate_rows(gating, both, gated)
    _multiply(tables[1], spans, gated, threads, results)
    _add_all_biases(biases[1], spans, results)
    for place in range(count):
        for output in range(hidden):
            totals[whose[place], output] += wide(results[place, output]) * factors[place]


@compile_loop
def _rows_of_experts(
    chosen: tuple[IntArray, Floats], first: int, experts: int
) -> tuple[IntArray, Floats, Spans]:
    """The rows that have chosen an expert that is here, and their factors, expert by expert."""
    counts = np.zeros(experts + 1, np.int64)
    for number in chosen[0].flat:
        if 0 <= number - first < experts:
            counts[number - first + 1] += 1
    active = np.flatnonzero(counts[1:])
    ends = np.cumsum(counts)
    starts = np.append(ends[active], ends[-1])
    whose, factors = np.empty(ends[-1], np.int64), np.empty(ends[-1], np.float32)
    for row in range(len(chosen[0])):
        for place in range(chosen[0].shape[1]):
            expert = chosen[0][row, place] - first
            if 0 <= expert < experts:
                whose[ends[expert]], factors[ends[expert]] = row, chosen[1][row, place]
                ends[expert] += 1
    return whose, factors, (active, starts)


@compile_loop
def _add_all_biases(biases: Numbers, spans: Spans, products: Numbers) -> None:
    active, starts = spans
    if len(biases):
        for place in range(len(active)):
            add_biases(products[starts[place] : starts[place + 1]], biases[active[place]])


@compile_loop
def _multiply(
    table: Table,
    spans: Spans,
    states: Numbers,
    threads: tuple[int, int],
    products: Numbers,
) -> tuple[Numbers, npt.NDArray[np.int32], Floats, IntArray]:
    """The rows of each expert by its weights; a single row of `states` is that of all of them.

    Returns what addresses were taken of: it would else be freed after its last use by name.
    """
    jobs, plans, layout, function = table
    active, starts = spans
    bits, inputs, group, zero, outputs = layout
    padded = 0
    for place in range(len(active)):
        padded += plans[starts[place + 1] - starts[place], len(PLAN)]
    item = 2 if bits == NUMBER_BITS else 1
    ordered = np.zeros(padded * inputs * item, np.int16)
    zeros = np.zeros(padded * (inputs // group), np.int32)
    sums = np.zeros((2, padded * (inputs // group)), np.float32)
    batch = np.empty((len(active) + 1, _FIELDS), np.int64)
    batch[0, 0] = len(active)
    before, single = 0, len(states) == 1
    for place in range(len(active)):
        start, behind = starts[place], starts[place + 1]
        plan, job = plans[behind - start], batch[place + 1]
        job[:] = jobs[active[place]]
        _put_plan(job, plan)
        words, groups = before * inputs * item, before * (inputs // group)
        job[Field.STATES] = ordered[words:].ctypes.data
        job[Field.ZEROS] = zeros[groups:].ctypes.data
        job[Field.UNITS] = sums[0, groups:].ctypes.data
        job[Field.TOTALS] = sums[1, groups:].ctypes.data
        job[Field.NEXT], job[Field.FIRST] = 0, 0
        job[Field.RESULT], job[Field.RESULT_WIDTH] = products[start:].ctypes.data, outputs
        if not single or place == 0:
            part = states if single else states[start:behind]
            together, last = job[Field.TOGETHER], job[Field.LAST]
            if bits == NUMBER_BITS:
                widen(part, ordered[words:].view(np.float32), inputs, together, last)
            else:
                sizes = (inputs, group, together, last, zero)
                kept = (ordered[words:], zeros[groups:], sums[0, groups:], sums[1, groups:])
                quantize(part, sizes, *kept)
        before += 0 if single else plan[len(PLAN)]
    _enter_team(threads[1], function, batch.ctypes.data, threads[0])
    return ordered, zeros, sums, batch


@compile_loop
def _put_plan(job: Job, plan: IntArray) -> None:
    for number, field in enumerate(_PLAN_FIELDS):
        job[field] = plan[number]


def current_team() -> tuple[int, int]:
    """What `add_tiled_experts` takes to run on as many threads as PyTorch has."""
    address = team.parallel_address()
    return (1, 0) if address is None else (torch.get_num_threads(), address)
