"""compressed-tensors, as llm-compressor saves it: what is stored tells a module's format.

So targets and modules to be ignored need no matching: shapes and dtypes say the width and the
group of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from tandem.engine.checkpoint.quantized.affine import affine, code_bits, groups_of, in_order
from tandem.engine.checkpoint.quantized.numbers import (
    E2M1,
    E8M0,
    SMALL_FLOATS,
    Bytes,
    as_bytes,
)
from tandem.engine.checkpoint.quantized.streams import stream_codes, stream_tensor
from tandem.engine.checkpoint.quantized.tensor import NIBBLE, QuantizedTensor, Scales
from tandem.engine.checkpoint.schemes.parts import WIDE, Layout, Part, Parts, Scheme
from tandem.engine.checkpoint.schemes.scaled import ACTIVATIONS, Block, read_scaled, scaled_layout
from tandem.engine.checkpoint.schemes.settings import Settings
from tandem.engine.checkpoint.sharding import Span

_FORMATS = (
    *("pack-quantized", "int-quantized", "float-quantized", "naive-quantized"),
    *("nvfp4-pack-quantized", "mxfp4-pack-quantized", "mxfp8-quantized", "mixed-precision"),
    "dense",
)
_WORD = 32
_WIDTHS = frozenset(range(2, 9))


class _Weights(msgspec.Struct, frozen=True):
    num_bits: int | None = None
    group_size: int | None = None
    block_structure: tuple[int, int] | None = None

    @property
    def block(self) -> Block | None:
        """Of numbers that share a scale; None where rows do, or all."""
        if self.group_size is not None and self.group_size > 0:
            return 1, self.group_size
        return self.block_structure


class _Group(msgspec.Struct, frozen=True):
    weights: _Weights | None = None
    format: str | None = None


class _Stated(msgspec.Struct, frozen=True):
    format: str | None = None
    config_groups: dict[str, _Group] = {}
    sparsity_config: dict[str, Any] | None = None


class CompressedTensors(Scheme):
    suffixes: Mapping[str, str] = {
        "weight": ".weight",
        "packed": ".weight_packed",
        "scale": ".weight_scale",
        "shape": ".weight_shape",
        "zero_points": ".weight_zero_point",
        "g_idx": ".weight_g_idx",
        "global_scale": ".weight_global_scale",
    }
    markers = ("scale", "packed")
    ignored = ACTIVATIONS

    def __init__(self, settings: Settings) -> None:
        """Raises CheckpointError for sparse weights, and formats that are none of these."""
        stated = settings.read(_Stated)
        for form in (stated.format, *(group.format for group in stated.config_groups.values())):
            if form is not None and form not in _FORMATS:
                raise settings.unsupported("format", form, f"one of {', '.join(_FORMATS)}")
        sparse = (stated.sparsity_config or {}).get("format", "dense")
        if sparse != "dense":
            raise settings.unsupported("sparsity_config.format", sparse, "'dense'")
        weights = [group.weights for group in stated.config_groups.values() if group.weights]
        widths = {one.num_bits for one in weights if one.num_bits is not None}
        self._widths = sorted(widths & _WIDTHS)
        self._blocks = [one.block for one in weights if one.block is not None]
        self._rows = any(one.block is None for one in weights)
        for height, width in self._blocks:
            if min(height, width) < 1:
                raise settings.unsupported("block_structure", [height, width], "numbers above 0")

    def layout(self, parts: Parts) -> Layout:
        if "packed" not in parts:
            return scaled_layout(parts, "scale", self._blocks, "compressed-tensors")
        if parts.dtype("packed") == "U8":
            return _small_layout(parts)
        bits, group = self._bits(parts), self._group(parts)
        label = f"compressed-tensors {bits} bits, groups of {group}"
        _check_words(parts, bits, group)
        shape, zeros = _shape(parts), "zero_points" in parts
        wide = bits <= NIBBLE and zeros and parts.dtype("scale") == "float32"
        return Layout(shape, code_bits(bits, shape[1], wide=wide), group, zeros and not wide, label)

    def read(self, parts: Parts, part: Part) -> QuantizedTensor:
        if "packed" not in parts:
            return read_scaled(parts, "scale", self._blocks, part)
        if parts.dtype("packed") == "U8":
            return _read_small(parts, part)
        return _read_packed(parts, self._bits(parts), self._group(parts), part)

    def _bits(self, parts: Parts) -> int:
        """That of the known widths by which rows are as long as they are."""
        _, columns = _shape(parts)
        _, words = parts.shape("packed", ("I32",), (2,))
        for bits in self._widths:
            if -(-columns * bits // _WORD) == words:
                return bits
        raise parts.fault(
            "packed", f"has {words} words for {columns} columns; expected {self._widths} bits"
        )

    def _group(self, parts: Parts) -> int:
        """As many columns as share a scale, as the settings know them."""
        _, columns = _shape(parts)
        shape = parts.shape("scale", WIDE, (1, 2))
        groups = shape[1] if len(shape) == 2 else 1
        known = [width for _, width in self._blocks] + [columns] * self._rows
        for group in known:
            if columns == groups * group:
                return group
        raise parts.fault("scale", f"has {groups} groups of {columns} columns; expected {known}")


def _check_words(parts: Parts, bits: int, group: int) -> None:
    """Raises CheckpointError for what does not fit together."""
    rows, columns = _shape(parts)
    groups = columns // group
    parts.expect("packed", ("I32",), (rows, -(-columns * bits // _WORD)))
    if groups > 1 or parts.shape("scale", WIDE, (1, 2)) != (1,):
        parts.expect("scale", WIDE, (rows, groups))
    if "zero_points" in parts:
        kept = -(-rows * bits // _WORD)
        is_packed = parts.dtype("zero_points") == "I32"
        parts.expect("zero_points", ("I32", "I8"), (kept if is_packed else rows, groups))
    if "g_idx" in parts:
        parts.expect("g_idx", ("I32", "I64"), (columns,))


def _shape(parts: Parts) -> tuple[int, int]:
    """Of the matrix, which its words may be longer than."""
    parts.expect("shape", ("I64", "I32"), (2,))
    rows, columns = (int(extent) for extent in parts.array("shape"))
    if rows < 1 or columns < 1:
        raise parts.fault("shape", f"says {[rows, columns]}; expected rows and columns")
    return rows, columns


def _read_packed(parts: Parts, bits: int, group: int, part: Part) -> QuantizedTensor:
    rows, columns = _shape(parts)
    groups = columns // group
    codes = stream_codes(as_bytes(parts.array("packed")[part.height]), bits, part.columns)
    scales = np.broadcast_to(parts.floats("scale").reshape(-1, groups), (rows, groups))[part.height]
    zeros = _zeros(parts, rows, groups, bits)[part.height]
    wide = parts.dtype("scale") == "float32"
    index = _index(parts, part, groups)
    if index is not None:
        return in_order(codes, bits, scales, zeros, index, wide=wide)
    each, taken = groups_of(part.columns, group)
    return affine(codes, bits, each, scales[:, taken], zeros[:, taken], wide=wide)


def _zeros(parts: Parts, rows: int, groups: int, bits: int) -> Bytes:
    """(rows, groups), as codes are: half of what there are lies below zero."""
    middle = 1 << (bits - 1)
    if "zero_points" not in parts:
        return np.full((rows, groups), middle, np.uint8)
    stored = parts.array("zero_points")
    if parts.dtype("zero_points") == "I8":
        return (stored.astype(np.int16) + middle).astype(np.uint8)
    return np.ascontiguousarray(stream_codes(as_bytes(stored.T), bits, Span(0, rows)).T)


def _index(parts: Parts, part: Part, groups: int) -> npt.NDArray[np.int64] | None:
    """Each column's group, None where they follow one another."""
    if "g_idx" not in parts:
        return None
    index = parts.array("g_idx")[part.width].astype(np.int64)
    if (index == -1).all():  # as it is before anything has been ordered
        return None
    if index.min() < 0 or index.max() >= groups:
        raise parts.fault("g_idx", f"names groups {index.min()} to {index.max()} of {groups}")
    return index


def _small_layout(parts: Parts) -> Layout:
    """Four bits with an exponent: NVFP4 if there is one scale for all of them, or MXFP4."""
    rows, width = parts.shape("packed", ("U8",), (2,))
    nvfp4 = "global_scale" in parts
    dtypes = ("F8_E4M3",) if nvfp4 else ("U8", "F8_E8M0")
    _, groups = parts.shape("scale", dtypes, (2,))
    group = 16 if nvfp4 else 32
    parts.expect("scale", dtypes, (rows, width * 2 // group))
    if nvfp4 and parts.shape("global_scale", ("float32",), (0, 1)) not in ((), (1,)):
        raise parts.fault("global_scale", "is more than one number")
    if width * 2 % group:
        raise parts.fault("packed", f"has {width * 2} columns, not groups of {group}")
    label = "NVFP4" if nvfp4 else "MXFP4"
    return Layout((rows, groups * group), NIBBLE, group, minimums=False, label=label)


def _read_small(parts: Parts, part: Part) -> QuantizedTensor:
    stored = parts.array("packed")
    each, groups = groups_of(part.columns, stored.shape[1] * 2 // parts.array("scale").shape[1])
    codes = parts.array("scale")[part.height][:, groups]
    if "global_scale" in parts:
        scales = SMALL_FLOATS["F8_E4M3"][codes] / parts.floats("global_scale").reshape(())
    else:
        scales = E8M0[codes]
    return stream_tensor(
        stored[part.height], NIBBLE, part.columns, each, Scales(scales), table=E2M1
    )
