"""The types of a GGUF's tensors: how many bytes a block of numbers has, and which.

Nothing is rounded here: what comes out are the codes and scales that the file has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tandem.engine.checkpoint.gguf import unpacking
from tandem.engine.checkpoint.gguf.unpacking import Bytes, Parts
from tandem.engine.checkpoint.quantized.numbers import UNEVEN
from tandem.engine.checkpoint.quantized.tensor import BYTE, NIBBLE, QuantizedTensor, Scales

#: How much of a tensor is unpacked at a time, so that what comes in between stays in the cache.
_CHUNK_BYTES = 2**18
#: E2M1, doubled.
_FLOATS = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
_CENTRED = tuple(range(-8, 8))


@dataclass(frozen=True)
class BlockType:
    """`columns` numbers in `nbytes` bytes.

    Floating-point numbers have a `dtype`, numbers of few bits `unpack`; of what has neither only
    the size is known.
    """

    name: str
    columns: int
    nbytes: int
    dtype: str | None = None
    unpack: Callable[[Bytes], Parts] | None = None
    bits: int = BYTE
    group: int = 32
    table: tuple[int, ...] | None = None

    @property
    def readable(self) -> bool:
        return self.dtype is not None or self.unpack is not None

    @cached_property
    def kept_bytes(self) -> int:
        """What a block takes as it is kept."""
        return self.tensor(np.zeros((1, 1, self.nbytes), np.uint8)).nbytes

    def tensor(self, blocks: Bytes) -> QuantizedTensor:
        """Of uint8 (rows, blocks, nbytes), at least one of each; it may be a view of a file."""
        rows = len(blocks)
        parts = self._unpacked(blocks)
        minimums = None
        if parts.minimum is not None:
            minimums = _scales(parts.minimum, parts.inner_minimum, rows)
        return QuantizedTensor(
            codes=parts.codes.reshape(rows, -1),
            bits=self.bits,
            group=self.group,
            scales=_scales(parts.scale, parts.inner_scale, rows),
            minimums=minimums,
            table=None if self.table is None else np.array(self.table, np.float32),
        )

    def _unpacked(self, blocks: Bytes) -> Parts:
        assert self.unpack is not None, self.name
        rows, across, _ = blocks.shape
        step = max(1, _CHUNK_BYTES // (across * self.nbytes))
        filled: list[npt.NDArray[Any] | None] = []
        for first in range(0, rows, step):
            chunk = np.ascontiguousarray(blocks[first : first + step]).reshape(-1, self.nbytes)
            found = self.unpack(chunk)
            filled = filled or [_room_for(part, rows * across) for part in found]
            where = slice(first * across, first * across + len(chunk))
            for whole, part in zip(filled, found, strict=True):
                if whole is not None and part is not None:
                    whole[where] = part
        return Parts(*filled)  # type: ignore[arg-type] # codes and scales are never None


def _room_for(part: npt.NDArray[Any] | None, blocks: int) -> npt.NDArray[Any] | None:
    return None if part is None else np.empty((blocks, *part.shape[1:]), part.dtype)


def _scales(outer: npt.NDArray[Any], inner: npt.NDArray[Any] | None, rows: int) -> Scales:
    return Scales(outer.reshape(rows, -1), None if inner is None else inner.reshape(rows, -1))


def _four(
    name: str,
    nbytes: int,
    unpack: Callable[[Bytes], Parts],
    table: tuple[int, ...] | None = None,
    columns: int = 32,
) -> BlockType:
    return BlockType(name, columns, nbytes, unpack=unpack, bits=NIBBLE, table=table)


def _eight(name: str, columns: int, nbytes: int, group: int, unpack: Any) -> BlockType:  # noqa: ANN401
    return BlockType(name, columns, nbytes, unpack=unpack, group=group)


#: By their numbers in the file. Codebooks of whole groups (IQ1 to IQ3) have no such layout.
TYPES: dict[int, BlockType] = {
    0: BlockType("F32", 1, 4, dtype="float32"),
    1: BlockType("F16", 1, 2, dtype="float16"),
    2: _four("Q4_0", 18, unpacking.q4_0, _CENTRED),
    3: _four("Q4_1", 20, unpacking.q4_1),
    6: _eight("Q5_0", 32, 22, 32, unpacking.q5_0),
    7: _eight("Q5_1", 32, 24, 32, unpacking.q5_1),
    8: _eight("Q8_0", 32, 34, 32, unpacking.q8_0),
    10: _eight("Q2_K", 256, 84, 16, unpacking.q2_k),
    11: _eight("Q3_K", 256, 110, 16, unpacking.q3_k),
    12: _four("Q4_K", 144, unpacking.q4_k, columns=256),
    13: _eight("Q5_K", 256, 176, 32, unpacking.q5_k),
    14: _eight("Q6_K", 256, 210, 16, unpacking.q6_k),
    15: _eight("Q8_K", 256, 292, 256, unpacking.q8_k),
    16: BlockType("IQ2_XXS", 256, 66),
    17: BlockType("IQ2_XS", 256, 74),
    18: BlockType("IQ3_XXS", 256, 98),
    19: BlockType("IQ1_S", 256, 50),
    20: _four("IQ4_NL", 18, unpacking.q4_0, UNEVEN),
    21: BlockType("IQ3_S", 256, 110),
    22: BlockType("IQ2_S", 256, 82),
    23: _four("IQ4_XS", 136, unpacking.iq4_xs, UNEVEN, columns=256),
    24: BlockType("I8", 1, 1),
    25: BlockType("I16", 1, 2),
    26: BlockType("I32", 1, 4),
    27: BlockType("I64", 1, 8),
    28: BlockType("F64", 1, 8, dtype="float64"),
    29: BlockType("IQ1_M", 256, 56),
    30: BlockType("BF16", 1, 2, dtype="bfloat16"),
    34: _eight("TQ1_0", 256, 54, 256, unpacking.tq1_0),
    35: _eight("TQ2_0", 256, 66, 256, unpacking.tq2_0),
    39: _four("MXFP4", 17, unpacking.mxfp4, _FLOATS),
    40: BlockType("NVFP4", 64, 36),
    41: BlockType("Q1_0", 128, 18),
}
