"""A GGUF as a source of weights, under the names and in the order that Hugging Face has them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tandem.engine.checkpoint.gguf.architectures import Architecture, find_architecture
from tandem.engine.checkpoint.gguf.config import ROPE_FACTORS, head_width
from tandem.engine.checkpoint.gguf.model import GgufModel
from tandem.engine.checkpoint.libraries import as_tensor
from tandem.engine.checkpoint.quantized.numbers import float32
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor
from tandem.engine.checkpoint.sharding import Span
from tandem.engine.checkpoint.weights import StoredTensor, by_name
from tandem.errors import CheckpointError

_LAYER = re.compile(r"blk\.(\d+)\.([\w.]+)\.(weight|bias)")
_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output_norm.bias": "model.norm.bias",
    "output.weight": "lm_head.weight",
}
#: What the config says already.
_OF_THE_CONFIG = {ROPE_FACTORS, "rope_factors_long.weight", "rope_factors_short.weight"}
_ROTATED = {"attn_q", "attn_k"}
#: A matrix of one row, which writers may make a vector of.
_ONE_ROW = "ffn_gate_inp_shexp"
_MAX_EXPERTS = 2**12
_NUMPY = {"float64": "<f8", "float32": "<f4", "float16": "<f2", "bfloat16": "<u2"}


class _Origin(NamedTuple):
    """Where a tensor's numbers are: the file's name, and which entry of a stack.

    With a `pair`, half the width of a head, rows are to be put in order; `offset` was added to the
    numbers. With `one_row` a vector is a matrix of one row. Rows of the tensor `between` alternate
    with those of `name`.
    """

    name: str
    entry: int | None = None
    pair: int = 0
    offset: float = 0.0
    one_row: bool = False
    between: str | None = None


class GgufSource:
    """`tandem.engine.checkpoint.weights.WeightSource` of a file, or of the parts of one."""

    def __init__(self, path: Path, library: str) -> None:
        """`library` makes the tensors: `pt`, `mlx`, `numpy`. Raises CheckpointError."""
        self._model = GgufModel(path)
        self._library = library
        self._origins = by_name(_origins(self._model, find_architecture(self._model)), path)
        self.files: Mapping[str, Path] = {
            name: self._model.files[origin.name] for name, origin in self._origins.items()
        }
        self._check_tensors()

    def stored(self, name: str) -> StoredTensor:
        origin = self._origins[name]
        info = self._model.tensors[origin.name]
        shape = info.shape if origin.entry is None else info.shape[1:]
        if origin.one_row and len(shape) == 1:
            shape = (1, *shape)
        if origin.between is not None:
            shape = (shape[0], 2 * shape[1], *shape[2:])
        if info.type.dtype is not None:
            return StoredTensor(shape, info.type.dtype)
        quantized = info.type.unpack is not None
        nbytes = math.prod(shape) // info.type.columns * info.type.kept_bytes if quantized else 0
        return StoredTensor(shape, info.type.name, quantized, nbytes)

    def read(
        self,
        name: str,
        rows: Span | None = None,
        columns: Span | None = None,
        entry: int | None = None,
    ) -> Any:  # noqa: ANN401 - a library's tensor
        quantized = self.quantized(name, rows, columns, entry)
        if quantized is not None:
            return as_tensor(quantized.dequantize(), self._library)
        origin = self._origins[name]
        dtype = self._model.tensors[origin.name].type.dtype
        assert dtype is not None, "what is not in few bits is in floating-point numbers"
        blocks = self._rows(origin, rows, entry)
        if columns is not None:
            blocks = blocks[:, columns.start : columns.stop]
        numbers = np.array(blocks, order="C").view(_NUMPY[dtype])[..., 0]
        if origin.offset:
            numbers, dtype = float32(numbers, dtype) - np.float32(origin.offset), "float32"
        is_vector = len(self.stored(name).shape) == 1 + (entry is not None)
        return as_tensor(numbers[:, 0] if is_vector else numbers, self._library, dtype)

    def quantized(
        self,
        name: str,
        rows: Span | None = None,
        columns: Span | None = None,
        entry: int | None = None,
    ) -> QuantizedTensor | None:
        origin = self._origins[name]
        kind = self._model.tensors[origin.name].type
        if kind.dtype is not None:
            return None
        blocks = self._rows(origin, rows, entry)
        if columns is None:
            return kind.tensor(blocks)
        first, last = columns.start // kind.columns, -(-columns.stop // kind.columns)
        tensor = kind.tensor(blocks[:, first:last])
        return tensor.columns(columns.shifted(-first * kind.columns))

    def close(self) -> None:
        self._model.close()

    def _rows(self, origin: _Origin, rows: Span | None, entry: int | None) -> npt.NDArray[np.uint8]:
        """A view of the file, or a copy in another order: (rows, blocks, bytes of a block).

        A vector is as many rows of one number.
        """
        if origin.between is not None:
            both = (origin.name, origin.between)
            return _alternating([self._rows(_Origin(name), None, entry) for name in both], rows)
        blocks = self._model.blocks(origin.name)
        for number in (origin.entry, entry):
            if number is not None:
                blocks = blocks[number]
        if blocks.ndim == 2:  # a vector
            blocks = blocks[None] if origin.one_row else blocks[:, None]
        span = rows or Span(0, len(blocks))
        if not origin.pair:
            return blocks[span.start : span.stop]
        return _ordered(blocks, span, origin.pair)

    def _check_tensors(self) -> None:
        """Raises CheckpointError for numbers that no layout of ours holds, and parts of heads."""
        for name, origin in self._origins.items():
            info = self._model.tensors[origin.name]
            if origin.pair and info.shape[0] % (2 * origin.pair):
                raise CheckpointError(
                    f"{self.files[name]}: tensor {origin.name} has {info.shape[0]} rows, which are "
                    f"no heads of {2 * origin.pair} each"
                )
            other = self._model.tensors.get(origin.between or origin.name)
            if other is None or (other.type, other.shape) != (info.type, info.shape):
                raise CheckpointError(
                    f"{self.files[name]}: tensor {origin.name} and {origin.between} are not of one "
                    "type and shape"
                )
            if not info.type.readable or (info.type.unpack is not None and len(info.shape) < 2):
                raise CheckpointError(
                    f"{self.files[name]}: tensor {origin.name} is of type {info.type.name}, which "
                    "is not supported for it; use another quantisation of this model, as Q4_K_M"
                )


def _origins(model: GgufModel, row: Architecture) -> Iterator[tuple[str, _Origin]]:
    """Raises CheckpointError for a tensor that no model of the architecture has."""
    pair = head_width(model) // 2 if row.rotated else 0
    for name in model.tensors:
        offset = row.norm_offset if name.endswith("_norm.weight") else 0.0
        found = _LAYER.fullmatch(name)
        if name in _OUTER:
            yield _OUTER[name], _Origin(name, offset=offset)
        elif found is not None and f"{found[2]}.{found[3]}" in row.whole_names:
            yield from _by_whole_name(row, found)
        elif found is not None and found[2] in row.layer:
            ordered = pair if found[2] in _ROTATED else 0
            origin = _Origin(name, None, ordered, offset, found[2] == _ONE_ROW)
            full = f"model.layers.{int(found[1])}.{row.layer[found[2]]}.{found[3]}"
            yield from _each_expert(model, full, origin)
        elif name not in _OF_THE_CONFIG:
            raise CheckpointError(
                f"{model.files[name]}: tensor {name} is unexpected in a model of "
                f"general.architecture {model.fields['general.architecture']!r}"
            )


def _by_whole_name(row: Architecture, found: re.Match[str]) -> Iterator[tuple[str, _Origin]]:
    layer, kind, end = found.groups()
    if kind in row.between.values():
        return
    other = row.between.get(kind)
    between = None if other is None else f"blk.{layer}.{other}.{end}"
    theirs = row.whole_names[f"{kind}.{end}"]
    yield f"model.layers.{int(layer)}.{theirs}", _Origin(found[0], between=between)


def _each_expert(model: GgufModel, full: str, origin: _Origin) -> Iterator[tuple[str, _Origin]]:
    """Itself, or each entry of a stack where the name has an asterisk for its number."""
    if "*" not in full:
        yield full, origin
        return
    shape = model.tensors[origin.name].shape
    for entry in range(_entries(shape, model.files[origin.name], origin.name)):
        yield full.replace("*", str(entry)), origin._replace(entry=entry)


def _entries(shape: tuple[int, ...], file: Path, name: str) -> int:
    if len(shape) != 3 or shape[0] > _MAX_EXPERTS:
        raise CheckpointError(
            f"{file}: tensor {name} has shape {list(shape)}; expected one of three dimensions, "
            f"the first of at most {_MAX_EXPERTS} experts"
        )
    return shape[0]


def _ordered(blocks: npt.NDArray[np.uint8], span: Span, pair: int) -> npt.NDArray[np.uint8]:
    """Rows of heads with their halves one after the other, as the file has them row by row.

    Of the file only the heads are read that the rows are of.
    """
    width = 2 * pair
    first, last = span.start // width * width, -(-span.stop // width) * width
    heads = blocks[first:last].reshape(-1, pair, 2, *blocks.shape[1:])
    ordered = heads.swapaxes(1, 2).reshape(-1, *blocks.shape[1:])
    return ordered[span.start - first : span.stop - first]


def _alternating(both: list[npt.NDArray[np.uint8]], rows: Span | None) -> npt.NDArray[np.uint8]:
    """Rows of one and the other in turn."""
    span = rows or Span(0, 2 * len(both[0]))
    first, last = span.start // 2, -(-span.stop // 2)
    pairs = np.stack([blocks[first:last] for blocks in both], axis=1)
    turned = pairs.reshape(-1, *pairs.shape[2:])
    return turned[span.start - 2 * first : span.stop - 2 * first]
