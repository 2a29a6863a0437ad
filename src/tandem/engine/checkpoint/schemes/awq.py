"""AWQ (Lin et al., 2023) as AutoAWQ stores it for its GEMM kernels: four bits and zero points.

Eight outputs of an input are in one word, in an order that suits tensor cores.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from tandem.engine.checkpoint.quantized.affine import affine, code_bits, groups_of
from tandem.engine.checkpoint.quantized.numbers import Bytes
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor
from tandem.engine.checkpoint.schemes.parts import WIDE, Array, Layout, Part, Parts, Scheme
from tandem.engine.checkpoint.schemes.settings import Settings
from tandem.engine.checkpoint.sharding import Span

_BITS, _PER_WORD = 4, 8
#: Where in a word the first, second, ... output is.
_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)


class _Stated(msgspec.Struct, frozen=True):
    bits: int | None = None
    w_bit: int | None = None
    version: str | None = None
    group_size: int | None = None
    q_group_size: int | None = None


class Awq(Scheme):
    suffixes: Mapping[str, str] = {
        "qweight": ".qweight",
        "qzeros": ".qzeros",
        "scales": ".scales",
    }
    markers = ("qweight",)

    def __init__(self, settings: Settings) -> None:
        """Raises CheckpointError for another width or layout."""
        stated = settings.read(_Stated)
        bits = stated.bits or stated.w_bit or _BITS
        if bits != _BITS:
            raise settings.unsupported("bits", bits, str(_BITS))
        if (stated.version or "gemm").lower() != "gemm":
            raise settings.unsupported("version", stated.version, "'gemm'")
        self._group = stated.group_size or stated.q_group_size
        if self._group is not None and self._group != -1 and self._group < 1:
            raise settings.unsupported("group_size", self._group, "-1 or more than 0")

    def layout(self, parts: Parts) -> Layout:
        columns, words = parts.shape("qweight", ("I32",), (2,))
        rows = words * _PER_WORD
        groups, _ = parts.shape("scales", WIDE, (2,))
        stated = columns if self._group == -1 else self._group
        if columns % groups or (stated is not None and columns != groups * stated):
            raise parts.fault("scales", f"has {groups} groups of {columns} inputs, not of {stated}")
        parts.expect("scales", WIDE, (groups, rows))
        parts.expect("qzeros", ("I32",), (groups, words))
        group = columns // groups
        label = f"AWQ 4 bits, groups of {group}"
        wide = parts.dtype("scales") == "float32"
        bits = code_bits(_BITS, columns, wide=wide)
        return Layout((rows, columns), bits, group, minimums=not wide, label=label)

    def read(self, parts: Parts, part: Part) -> QuantizedTensor:
        columns, _ = parts.array("qweight").shape
        group, groups = groups_of(part.columns, columns // len(parts.array("scales")))
        return affine(
            _outputs(parts.array("qweight")[part.width], part.rows),
            _BITS,
            group,
            np.ascontiguousarray(parts.floats("scales", (slice(None), part.height)).T[:, groups]),
            _outputs(parts.array("qzeros"), part.rows)[:, groups],
            wide=parts.dtype("scales") == "float32",
        )


def _outputs(words: Array, rows: Span) -> Bytes:
    """(inputs, words) → (rows, inputs) codes of these outputs."""
    first, last = rows.start // _PER_WORD, -(-rows.stop // _PER_WORD)
    turned = np.ascontiguousarray(words[:, first:last].T).view(np.uint32)
    codes = np.empty((len(turned), _PER_WORD, turned.shape[1]), np.uint8)
    for output, place in enumerate(_PLACES):
        codes[:, output] = turned >> np.uint32(_BITS * place) & np.uint32(2**_BITS - 1)
    start = first * _PER_WORD
    return codes.reshape(-1, turned.shape[1])[rows.start - start : rows.stop - start]
