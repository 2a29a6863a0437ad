"""Safetensors files as a source of weights: mapped rather than loaded, read by slice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec
from safetensors import SafetensorError, safe_open

from tandem.engine.checkpoint.files import read_json
from tandem.engine.checkpoint.sharding import Span
from tandem.engine.checkpoint.weights import StoredTensor
from tandem.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


class _View(Protocol):
    """What safetensors knows of a tensor before it is read; indexing reads."""

    def get_shape(self) -> list[int]: ...

    def get_dtype(self) -> str: ...

    def __getitem__(self, index: tuple[slice, ...]) -> Any: ...  # noqa: ANN401 - a library's tensor


class _File(Protocol):
    """The part of the untyped `safe_open` handle that is used here."""

    def keys(self) -> list[str]: ...

    def get_slice(self, name: str) -> _View: ...


class Safetensors:
    """`tandem.engine.checkpoint.weights.WeightSource` of a directory in Hugging Face's layout."""

    def __init__(self, directory: Path, library: str) -> None:
        """`library` makes the tensors: `pt`, `mlx`, `numpy`. Raises CheckpointError."""
        self._library = library
        self._handles: dict[Path, _File] = {}
        self.files: Mapping[str, Path] = self._locate(directory)

    def stored(self, name: str) -> StoredTensor:
        file = self.files[name]
        try:
            view = self._open(file).get_slice(name)
        except SafetensorError as error:
            raise CheckpointError(
                f"{file}: tensor {name} is missing, though {INDEX_FILE} names this file"
            ) from error
        dtype = view.get_dtype()
        return StoredTensor(tuple(view.get_shape()), _DTYPES.get(dtype, dtype))

    def read(self, name: str, rows: Span | None = None, columns: Span | None = None) -> Any:  # noqa: ANN401
        view = self._open(self.files[name]).get_slice(name)
        row_slice = slice(None) if rows is None else slice(rows.start, rows.stop)
        column_slice = () if columns is None else (slice(columns.start, columns.stop),)
        return view[(row_slice, *column_slice)]

    def close(self) -> None:
        self._handles.clear()

    def _locate(self, directory: Path) -> dict[str, Path]:
        """Tensor name → file, from the index or from the single file's own header."""
        index, single = directory / INDEX_FILE, directory / SINGLE_FILE
        if not index.exists():
            if not single.exists():
                raise CheckpointError(
                    f"{directory}: neither {SINGLE_FILE} nor {INDEX_FILE} is there"
                )
            return dict.fromkeys(self._open(single).keys(), single)
        weight_map = read_json(index, _Index).weight_map
        for name, file in weight_map.items():
            if Path(file).name != file:
                raise CheckpointError(
                    f"{index}: {name} is mapped to {file!r}, not a plain file name"
                )
        return {name: directory / file for name, file in weight_map.items()}

    def _open(self, file: Path) -> _File:
        """Maps one file. Raises CheckpointError when it is missing, cut or malformed."""
        if file not in self._handles:
            try:
                handle = cast("_File", safe_open(file, framework=self._library, device="cpu"))
            except (SafetensorError, OSError) as error:
                size = f"{file.stat().st_size} bytes" if file.exists() else "missing"
                raise CheckpointError(
                    f"{file}: not a whole safetensors file ({size}): {error}; copy or download it "
                    "again"
                ) from error
            self._handles[file] = handle
        return self._handles[file]
