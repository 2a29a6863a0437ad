"""GPTQ (Frantar et al., 2022) as AutoGPTQ and GPTQModel store it: 2, 3, 4 or 8 bits.

Words hold successive inputs of an output. With act-order an input's group is anybody's: `g_idx`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tandem.engine.checkpoint.quantized.affine import affine, code_bits, groups_of, in_order
from tandem.engine.checkpoint.quantized.numbers import Bytes, as_bytes, unpacked
from tandem.engine.checkpoint.quantized.tensor import NIBBLE, QuantizedTensor
from tandem.engine.checkpoint.schemes.parts import WIDE, Array, Layout, Part, Parts, Scheme
from tandem.engine.checkpoint.schemes.settings import Settings

_WIDTHS = (2, 3, 4, 8)
_WORD = 32
_V1, _V2 = "gptq", "gptq_v2"


class _Stated(msgspec.Struct, frozen=True):
    bits: int
    group_size: int = 128
    checkpoint_format: str | None = None
    format: str | None = None
    is_marlin_format: bool | None = None
    desc_act: bool | None = None
    dynamic: dict[str, Any] | None = None


class Gptq(Scheme):
    """Of a module with settings of its own (`dynamic`) the tensors themselves say the width."""

    suffixes: Mapping[str, str] = {
        "qweight": ".qweight",
        "qzeros": ".qzeros",
        "scales": ".scales",
        "g_idx": ".g_idx",
    }
    markers = ("qweight",)

    def __init__(self, settings: Settings) -> None:
        """Raises CheckpointError for a width or a layout that is none of these."""
        stated = settings.read(_Stated)
        if stated.bits not in _WIDTHS:
            raise settings.unsupported("bits", stated.bits, f"one of {_WIDTHS}")
        version = stated.checkpoint_format or stated.format or _V1
        if stated.is_marlin_format or version not in (_V1, _V2):
            wanted = "marlin" if stated.is_marlin_format else version
            raise settings.unsupported("checkpoint_format", wanted, f"{_V1!r} or {_V2!r}")
        if stated.group_size != -1 and stated.group_size < 1:
            raise settings.unsupported("group_size", stated.group_size, "-1 or more than 0")
        self._stated = stated
        self._less_one = version == _V1

    def layout(self, parts: Parts) -> Layout:
        words, rows = parts.shape("qweight", ("I32",), (2,))
        groups, _ = parts.shape("qzeros", ("I32",), (2,))
        bits = self._bits(parts)
        if words % bits or words * _WORD // bits < groups:
            raise parts.fault("qweight", f"has {words} words of {bits} bits for {groups} groups")
        columns = words * _WORD // bits
        parts.expect("scales", WIDE, (groups, rows))
        if "g_idx" in parts:
            parts.expect("g_idx", ("I32", "I64"), (columns,))
        elif self._stated.desc_act:
            raise parts.fault("qweight", "is in act-order, and its g_idx is missing")
        group = self._group(parts, columns, groups)
        label = f"GPTQ {bits} bits, groups of {group}"
        wide = bits <= NIBBLE and parts.dtype("scales") == "float32"
        kept = code_bits(bits, columns, wide=wide)
        return Layout((rows, columns), kept, group, minimums=not wide, label=label)

    def read(self, parts: Parts, part: Part) -> QuantizedTensor:
        bits = self._bits(parts)
        scales = np.ascontiguousarray(parts.floats("scales", (slice(None), part.height)).T)
        zeros = np.ascontiguousarray(self._zeros(parts, bits, part).T)
        codes = _inputs(parts.array("qweight")[:, part.height], bits, part)
        columns, groups = len(parts.array("qweight")) * _WORD // bits, scales.shape[1]
        each, wide = self._group(parts, columns, groups), parts.dtype("scales") == "float32"
        index = _index(parts, part, groups)
        if index is None or np.array_equal(index, np.arange(*_run(part)) // each):
            group, taken = groups_of(part.columns, each)
            return affine(codes, bits, group, scales[:, taken], zeros[:, taken], wide=wide)
        return in_order(codes, bits, scales, zeros, index, wide=wide)

    def _bits(self, parts: Parts) -> int:
        """As the shapes have it. Raises CheckpointError where that is not as the config says."""
        _, words = parts.shape("qzeros", ("I32",), (2,))
        _, rows = parts.shape("scales", WIDE, (2,))
        bits = words * _WORD // rows
        known = _WIDTHS if self._stated.dynamic else (self._stated.bits,)
        if bits not in known or words * _WORD != rows * bits:
            raise parts.fault("qzeros", f"has {bits} bits for {rows} outputs; expected {known}")
        return bits

    def _group(self, parts: Parts, columns: int, groups: int) -> int:
        """Raises CheckpointError where there are not as many as the config says."""
        stated = self._stated.group_size
        each = columns if stated == -1 else stated
        if self._stated.dynamic and -(-columns // each) != groups:
            each = columns // groups
        if -(-columns // each) != groups:
            raise parts.fault("scales", f"has {groups} groups of {columns} inputs, not of {each}")
        return each

    def _zeros(self, parts: Parts, bits: int, part: Part) -> Bytes:
        """(groups, rows). The first version has them less one: of a word, borrow and all."""
        words = parts.array("qzeros").view(np.uint32)
        if self._less_one and bits != 3:
            words = words + np.uint32(sum(1 << place for place in range(0, _WORD, bits)))
        zeros = unpacked(as_bytes(words), bits)[:, part.height]
        one = np.uint8(self._less_one and bits == 3)
        return (zeros + one) & np.uint8(2**bits - 1)


def _run(part: Part) -> tuple[int, int]:
    return part.columns.start, part.columns.stop


def _inputs(words: Array, bits: int, part: Part) -> Bytes:
    """(words, rows) → (rows, columns) codes of these inputs."""
    # Of 32 inputs, the words are as many as a code's bits.
    first, last = part.columns.start // _WORD, -(-part.columns.stop // _WORD)
    codes = unpacked(as_bytes(words[first * bits : last * bits].T), bits)
    start = first * _WORD
    return np.ascontiguousarray(codes[:, part.columns.start - start : part.columns.stop - start])


def _index(parts: Parts, part: Part, groups: int) -> npt.NDArray[np.int64] | None:
    """Each column's group; raises CheckpointError for one that there is not."""
    if "g_idx" not in parts:
        return None
    index = parts.array("g_idx")[part.width].astype(np.int64)
    if index.min() < 0 or index.max() >= groups:
        raise parts.fault("g_idx", f"names groups {index.min()} to {index.max()} of {groups}")
    return index
