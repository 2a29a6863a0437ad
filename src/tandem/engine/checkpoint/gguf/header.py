"""The head of a GGUF file: what it says of itself, and where its tensors are.

Whoever made it may be a stranger: every count and length is compared with what there is before
anything is made of it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np

from tandem.engine.checkpoint.gguf.blocks import TYPES, BlockType
from tandem.engine.checkpoint.gguf.choice import MAGIC
from tandem.errors import CheckpointError

Value: TypeAlias = "int | float | bool | str | Sequence[Value] | np.ndarray[tuple[int], np.dtype]"

_VERSIONS = (2, 3)
#: Vocabularies of a quarter of a million tokens take some ten megabytes.
_MAX_HEAD_BYTES = 256 * 2**20
_MAX_FIELDS = 2**16
_MAX_TENSORS = 2**20
_MAX_TEXTS = 2**22
_MAX_NAME_BYTES = 1024
_MAX_TEXT_BYTES = 16 * 2**20
_MAX_DIMENSIONS = 4
_MAX_NESTING = 4
_DEFAULT_ALIGNMENT, _MAX_ALIGNMENT = 32, 2**20

#: Numbers by their code in the file, as `struct` and NumPy write them.
_NUMBERS = dict(
    zip(
        (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12),
        ("<u1", "<i1", "<u2", "<i2", "<u4", "<i4", "<f4", "?", "<u8", "<i8", "<f8"),
        strict=True,
    )
)
_TEXT, _ARRAY = 8, 9


class TensorInfo(msgspec.Struct, frozen=True):
    """A tensor of a file: its shape as (rows, columns), and where its bytes begin in the file."""

    shape: tuple[int, ...]
    type: BlockType
    start: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) // self.type.columns * self.type.nbytes

    @property
    def stop(self) -> int:
        return self.start + self.nbytes


class Head(msgspec.Struct, frozen=True):
    fields: dict[str, Value]
    tensors: dict[str, TensorInfo]


def read_head(data: memoryview, path: Path) -> Head:
    """Of a whole file's bytes. Raises CheckpointError naming the file and what is wrong in it."""
    cursor = _Cursor(data[:_MAX_HEAD_BYTES], path)
    tensor_count, field_count = _read_preamble(cursor)
    fields: dict[str, Value] = {}
    for _ in range(field_count):
        key = cursor.text("the name of a field", _MAX_NAME_BYTES)
        if key in fields:
            raise cursor.error(f"{key} is there twice")
        fields[key] = _read_value(cursor, key, cursor.number("<u4", key))
    infos = dict(_read_infos(cursor, tensor_count))
    alignment = _alignment(fields, cursor)
    begin = -(-cursor.at // alignment) * alignment
    tensors = {name: _placed(info, begin, alignment, cursor, name) for name, info in infos.items()}
    _check_extents(tensors, len(data), cursor)
    return Head(fields, tensors)


class _Cursor:
    """Reads forward, never beyond the end."""

    def __init__(self, data: memoryview, path: Path) -> None:
        self._data = data
        self._path = path
        self.at = 0

    def error(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: not a whole GGUF file: {reason}")

    def take(self, count: int, what: str) -> memoryview:
        if count > len(self._data) - self.at:
            raise self.error(f"it ends within {what}; copy or download it again")
        self.at += count
        return self._data[self.at - count : self.at]

    def number(self, kind: str, what: str) -> int:
        dtype = np.dtype(kind)
        return int(np.frombuffer(self.take(dtype.itemsize, what), dtype)[0])

    def count(self, most: int, what: str) -> int:
        """Of eight bytes, the only width that lengths and counts have."""
        (found,) = struct.unpack("<Q", self.take(8, what))
        if found > most:
            raise self.error(f"{what} has a length of {found}; expected at most {most}")
        return int(found)

    def text(self, what: str, most: int = _MAX_TEXT_BYTES) -> str:
        raw = bytes(self.take(self.count(most, what), what))
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise self.error(f"{what} is not UTF-8: {error}") from error

    def texts(self, count: int, what: str) -> list[str]:
        """As `text`, in a loop that makes nothing but the texts: there may be a million."""
        data, end, at = self._data, len(self._data), self.at
        length_at, found = struct.Struct("<Q").unpack_from, []
        for _ in range(count):
            start = at + 8
            length = length_at(data, at)[0] if start <= end else end
            at = start + length
            if at > end:
                raise self.error(f"it ends within {what}; copy or download it again")
            found.append(data[start:at])
        self.at = at
        try:
            return [str(raw, "utf-8") for raw in found]
        except UnicodeDecodeError as error:
            raise self.error(f"{what} is not UTF-8: {error}") from error


def _read_preamble(cursor: _Cursor) -> tuple[int, int]:
    """How many tensors and fields there are."""
    if bytes(cursor.take(4, "its first bytes")) != MAGIC:
        raise cursor.error("it does not begin with GGUF")
    version = cursor.number("<u4", "its version")
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        what = "big-endian" if swapped in _VERSIONS else f"of version {version}"
        raise cursor.error(f"{what}; expected version 3, little-endian: convert it again")
    return cursor.count(_MAX_TENSORS, "its tensors"), cursor.count(_MAX_FIELDS, "its fields")


def _read_value(cursor: _Cursor, key: str, kind: int, depth: int = 0) -> Value:
    if kind == _TEXT:
        return cursor.text(key)
    if kind == _ARRAY:
        return _read_array(cursor, key, depth)
    number = _NUMBERS.get(kind)
    if number is None:
        raise cursor.error(f"{key} is of the unknown type {kind}")
    dtype = np.dtype(number)
    value = np.frombuffer(cursor.take(dtype.itemsize, key), dtype)[0]
    # The shortest number that it is the nearest of: 1e-05, not what follows in double precision.
    return float(str(value)) if number == "<f4" else value.item()


def _read_array(cursor: _Cursor, key: str, depth: int) -> Value:
    kind = cursor.number("<u4", key)
    if kind == _TEXT:
        return cursor.texts(cursor.count(_MAX_TEXTS, key), key)
    if kind in _NUMBERS:
        dtype = np.dtype(_NUMBERS[kind])
        count = cursor.count(_MAX_HEAD_BYTES // dtype.itemsize, key)
        return np.frombuffer(bytes(cursor.take(count * dtype.itemsize, key)), dtype)
    if depth == _MAX_NESTING:
        raise cursor.error(f"{key} is nested more than {_MAX_NESTING} deep")
    count = cursor.count(_MAX_FIELDS, key)
    return [_read_value(cursor, key, kind, depth + 1) for _ in range(count)]


def _read_infos(cursor: _Cursor, count: int) -> Iterator[tuple[str, TensorInfo]]:
    """Each with the offset that the file gives, from where its tensors begin."""
    seen = set()
    for _ in range(count):
        name = cursor.text("the name of a tensor", _MAX_NAME_BYTES)
        what = f"tensor {name}"
        if name in seen:
            raise cursor.error(f"{what} is there twice")
        seen.add(name)
        dimensions = cursor.number("<u4", what)
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise cursor.error(
                f"{what} has {dimensions} dimensions; expected 1 to {_MAX_DIMENSIONS}"
            )
        sizes = struct.unpack(f"<{dimensions}Q", cursor.take(8 * dimensions, what))
        kind, offset = struct.unpack("<IQ", cursor.take(12, what))
        yield name, TensorInfo(sizes[::-1], _type(kind, sizes[0], cursor.error, what), offset)


def _type(kind: int, columns: int, error: Callable[[str], CheckpointError], what: str) -> BlockType:
    if kind not in TYPES:
        raise error(f"{what} is of the unknown type {kind}")
    found = TYPES[kind]
    if columns % found.columns:
        raise error(
            f"{what} has rows of {columns} numbers; {found.name} has {found.columns} in a block"
        )
    return found


def _alignment(fields: dict[str, Value], cursor: _Cursor) -> int:
    stated = fields.get("general.alignment", _DEFAULT_ALIGNMENT)
    if isinstance(stated, int) and 1 <= stated <= _MAX_ALIGNMENT and not stated % 8:
        return stated
    raise cursor.error(f"general.alignment is {stated!r}; expected a multiple of 8")


def _placed(info: TensorInfo, begin: int, alignment: int, cursor: _Cursor, name: str) -> TensorInfo:
    if info.start % alignment:
        raise cursor.error(f"tensor {name} begins at {info.start}; expected x {alignment}")
    return msgspec.structs.replace(info, start=begin + info.start)


def _check_extents(tensors: dict[str, TensorInfo], size: int, cursor: _Cursor) -> None:
    """None is empty, beyond the end of the file, or within another one."""
    end, before = 0, ""
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].start, item[1].stop)):
        if not all(info.shape):
            raise cursor.error(f"tensor {name} has shape {list(info.shape)}: it has no numbers")
        if info.stop > size:
            raise cursor.error(
                f"tensor {name} of {info.nbytes} bytes ends at {info.stop}, and the file has "
                f"{size} bytes; copy or download it again"
            )
        if info.start < end:
            raise cursor.error(f"tensor {name} begins within tensor {before}")
        end, before = info.stop, name
