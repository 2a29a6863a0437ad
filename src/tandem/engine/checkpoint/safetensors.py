"""Safetensors files as a source of weights: mapped rather than loaded, read by slice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from tandem.engine.checkpoint.files import check_file, reading
from tandem.engine.checkpoint.index import candidates, missing, whole
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor
from tandem.engine.checkpoint.sharding import Span
from tandem.engine.checkpoint.weights import StoredTensor
from tandem.errors import CheckpointError

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
#: Without floating-point numbers that NumPy does not have: those are unsigned integers.
_ARRAYS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "F8_E4M3": "u1",
    "F8_E5M2": "u1",
    "F8_E8M0": "u1",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
}

#: A file's own list of its tensors takes some hundred bytes for each.
_MAX_HEADER_BYTES = 32 * 2**20


class _View(Protocol):
    """What safetensors knows of a tensor before it is read; indexing reads."""

    def get_shape(self) -> list[int]: ...

    def get_dtype(self) -> str: ...

    def __getitem__(self, index: tuple[slice, ...]) -> Any: ...  # noqa: ANN401 - a library's tensor


class _File(Protocol):
    """The part of the untyped `safe_open` handle that is used here."""

    def keys(self) -> list[str]: ...

    def get_slice(self, name: str) -> _View: ...


class _Entry(msgspec.Struct, frozen=True):
    """What a header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Mapped:
    """A file whose header the library has found sound, as NumPy's arrays."""

    def __init__(self, file: Path) -> None:
        with reading(file):
            self._bytes = np.memmap(file, np.uint8, "r")
        length = int.from_bytes(self._bytes[:8].tobytes(), "little")
        self._data = self._bytes[8 + length :]
        header = self._bytes[8 : 8 + length].tobytes()
        self._entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])

    def array(self, name: str) -> npt.NDArray[Any]:
        """Raises KeyError for a format that no array has."""
        entry = msgspec.json.decode(self._entries[name], type=_Entry)
        start, end = entry.data_offsets
        return np.asarray(self._data[start:end].view(_ARRAYS[entry.dtype]).reshape(entry.shape))


class Safetensors:
    """`tandem.engine.checkpoint.weights.WeightSource` of a directory in Hugging Face's layout."""

    def __init__(self, directory: Path, library: str) -> None:
        """`library` makes the tensors: `pt`, `mlx`, `numpy`. Raises CheckpointError."""
        self.directory, self._library = directory, library
        self._handles: dict[Path, _File] = {}
        self._mapped: dict[Path, _Mapped] = {}
        self.files: Mapping[str, Path] = self._locate(directory)

    def stored(self, name: str) -> StoredTensor:
        view = self._open(self.files[name]).get_slice(name)
        dtype = view.get_dtype()
        return StoredTensor(tuple(view.get_shape()), _DTYPES.get(dtype, dtype))

    def read(
        self,
        name: str,
        rows: Span | None = None,
        columns: Span | None = None,
        entry: int | None = None,
    ) -> Any:  # noqa: ANN401 - a library's tensor
        view = self._open(self.files[name]).get_slice(name)
        row_slice = slice(None) if rows is None else slice(rows.start, rows.stop)
        column_slice = () if columns is None else (slice(columns.start, columns.stop),)
        if entry is None:
            return view[(row_slice, *column_slice)]
        return view[(slice(entry, entry + 1), row_slice, *column_slice)][0]

    def quantized(
        self,
        name: str,  # noqa: ARG002 - all that these files hold are floating-point numbers
        rows: Span | None = None,  # noqa: ARG002
        columns: Span | None = None,  # noqa: ARG002
        entry: int | None = None,  # noqa: ARG002
    ) -> QuantizedTensor | None:
        return None

    def array(self, name: str) -> npt.NDArray[Any]:
        """A view of the file, whatever library reads the rest. Raises CheckpointError.

        Floating-point numbers that NumPy does not have come as unsigned integers of their width.
        """
        file, dtype = self.files[name], self.stored(name).dtype
        if file not in self._mapped:
            self._mapped[file] = _Mapped(file)
        try:
            return self._mapped[file].array(name)
        except KeyError:
            raise CheckpointError(f"{file}: tensor {name} has dtype {dtype}: no array") from None

    def close(self) -> None:
        self._handles.clear()
        self._mapped.clear()

    def _locate(self, directory: Path) -> dict[str, Path]:
        """Tensor → file, by the files' own headers; of two that have one the last counts."""
        names = whole(directory, candidates(directory))
        if names is None:
            raise missing(directory)
        files = [directory / name for name in names]
        return {tensor: file for file in files for tensor in self._open(file).keys()}  # noqa: SIM118

    def _open(self, file: Path) -> _File:
        """Maps one file. Raises CheckpointError when it is missing, cut or malformed."""
        if file not in self._handles:
            _check_header_size(file)
            try:
                handle = cast("_File", safe_open(file, framework=self._library, device="cpu"))
            except (SafetensorError, OSError) as error:
                raise _not_whole(file, str(error)) from error
            self._handles[file] = handle
        return self._handles[file]


def _check_header_size(file: Path) -> None:
    """The library would read a header of 100 MB; the first eight bytes say how long it is."""
    check_file(file)
    with reading(file), file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
    if length > _MAX_HEADER_BYTES:
        raise _not_whole(file, f"a header of {length} bytes")


def _not_whole(file: Path, reason: str) -> CheckpointError:
    with reading(file):
        size = file.stat().st_size
    return CheckpointError(
        f"{file}: not a whole safetensors file ({size} bytes): {reason}; copy or download it again"
    )
