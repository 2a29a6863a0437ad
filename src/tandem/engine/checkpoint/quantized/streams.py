"""Matrices whose rows are streams of codes, the lowest bits first, as most files have them."""

from __future__ import annotations

import numpy as np

from tandem.engine.checkpoint.quantized.numbers import Bytes, nibbles, unpacked
from tandem.engine.checkpoint.quantized.tensor import BYTE, NIBBLE, Floats, QuantizedTensor, Scales
from tandem.engine.checkpoint.sharding import Span

#: Where eight bits have no table they are signed: of those that are not a code is itself.
_UNSIGNED = np.arange(256, dtype=np.float32)


def stream_codes(stream: Bytes, bits: int, columns: Span) -> Bytes:
    """(rows, bytes) → (rows, columns) codes, a byte each."""
    first, last = columns.start // 8, -(-columns.stop // 8)
    run = stream[:, first * bits : last * bits]
    missing = (last - first) * bits - run.shape[1]  # of the last codes of a row, which are unused
    codes = unpacked(np.pad(run, ((0, 0), (0, missing))), bits)
    return np.ascontiguousarray(codes[:, columns.start - first * 8 : columns.stop - first * 8])


def stream_tensor(
    stream: Bytes,
    bits: int,
    columns: Span,
    group: int,
    scales: Scales,
    minimums: Scales | None = None,
    table: Floats | None = None,
) -> QuantizedTensor:
    """These columns of (rows, bytes). Without a table a code is the number, which is not signed."""
    if bits == NIBBLE and columns.start % 2 == 0 and columns.stop % 2 == 0:
        codes = stream[:, columns.start // 2 : columns.stop // 2].copy()
        return QuantizedTensor(codes, NIBBLE, group, scales, minimums, table)
    codes = stream_codes(stream, bits, columns)
    if bits <= NIBBLE and len(columns) % 2 == 0:
        return QuantizedTensor(nibbles(codes), NIBBLE, group, scales, minimums, table)
    if table is None and bits < BYTE:
        return QuantizedTensor(codes.view(np.int8), BYTE, group, scales, minimums)
    wide = np.zeros(256, np.float32)
    known = _UNSIGNED if table is None else table
    wide[: len(known)] = known
    return QuantizedTensor(codes, BYTE, group, scales, minimums, wide)
