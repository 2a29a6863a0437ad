"""A model in GGUF: one file, or the parts `-00001-of-00003.gguf` of one, mapped into memory."""

from __future__ import annotations

import math
import mmap
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import numpy as np
import numpy.typing as npt

from tandem.engine.checkpoint.files import check_file, reading
from tandem.engine.checkpoint.gguf.choice import part_names
from tandem.engine.checkpoint.gguf.header import Head, TensorInfo, Value, read_head
from tandem.errors import CheckpointError

T = TypeVar("T")


class GgufModel:
    """`fields` are those of the first file; the tensors are those of all.

    The files stay mapped as long as anything refers to their bytes.
    """

    def __init__(self, path: Path) -> None:
        """`path` is any of its parts. Raises CheckpointError."""
        self.path = path
        self._bytes: dict[Path, npt.NDArray[np.uint8]] = {}
        self.tensors: dict[str, TensorInfo] = {}
        self.files: dict[str, Path] = {}
        names = part_names(path.name)
        heads = [self._open(path.with_name(name)) for name in names]
        self.fields: dict[str, Value] = heads[0].fields
        if len(names) > 1:
            self._check_parts(heads, [path.with_name(name) for name in names])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._bytes.clear()

    def blocks(self, name: str) -> npt.NDArray[np.uint8]:
        """A view of the file: uint8 (..., rows, blocks, bytes of a block)."""
        info = self.tensors[name]
        data = self._bytes[self.files[name]][info.start : info.stop]
        across = info.shape[-1] // info.type.columns
        return data.reshape(*info.shape[:-1], across, info.type.nbytes)

    def stated(self, key: str, kind: type[T]) -> T | None:
        """A field of the file; None where it has none.

        Raises CheckpointError for another type, and for what is no finite number.
        """
        value = self.fields.get(key)
        if value is None:
            return None
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise CheckpointError(f"{self.path}: {key} is {_shown(value)}; expected {_KINDS[kind]}")
        if isinstance(value, float) and not math.isfinite(value):
            raise CheckpointError(f"{self.path}: {key} is {value}; expected a finite number")
        return value

    def needed(self, key: str, kind: type[T]) -> T:
        """As `stated`, and raises CheckpointError where there is none."""
        value = self.stated(key, kind)
        if value is None:
            raise CheckpointError(f"{self.path}: {key} is missing; expected {_KINDS[kind]}")
        return value

    def texts(self, key: str) -> list[str] | None:
        """An array of texts; None where there is none. Raises CheckpointError for another type."""
        value = self.stated(key, list)
        if value is not None and not all(isinstance(text, str) for text in value):
            raise CheckpointError(f"{self.path}: {key} is an array; expected one of texts")
        return value

    def numbers(self, key: str) -> npt.NDArray[np.generic] | None:
        """An array of numbers; None where there is none. Raises CheckpointError as `texts`."""
        return self.stated(key, np.ndarray)

    def _open(self, file: Path) -> Head:
        check_file(file)
        with reading(file), file.open("rb") as opened:
            try:
                mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise CheckpointError(f"{file}: not a whole GGUF file: it is empty") from error
        data = np.frombuffer(mapped, np.uint8)
        head = read_head(data.data, file)
        for name in head.tensors:
            if name in self.tensors:
                raise CheckpointError(f"{file}: tensor {name} is in {self.files[name].name} too")
            self.files[name] = file
        self.tensors |= head.tensors
        self._bytes[file] = data
        return head

    def _check_parts(self, heads: list[Head], files: list[Path]) -> None:
        for number, (head, file) in enumerate(zip(heads, files, strict=True)):
            said = head.fields.get("split.no"), head.fields.get("split.count")
            if said != (number, len(files)):
                raise CheckpointError(
                    f"{file}: split.no and split.count are {said}, and its name says part "
                    f"{number} of {len(files)}, counted from 0; copy or download the model again"
                )
        total = heads[0].fields.get("split.tensors.count", len(self.tensors))
        if total != len(self.tensors):
            raise CheckpointError(
                f"{files[0]}: split.tensors.count is {total}, and its {len(files)} parts have "
                f"{len(self.tensors)}; copy or download them again"
            )


_KINDS = {
    int: "an integer",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "an array of texts",
    np.ndarray: "an array of numbers",
}


def _shown(value: Value) -> str:
    if isinstance(value, list | np.ndarray):
        return f"an array of {len(value)}"
    return repr(value) if len(repr(value)) < 60 else repr(value)[:60] + "..."
