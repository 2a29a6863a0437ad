"""Safetensors files of a checkpoint: checked at once, read by slice, mapped rather than loaded.

`Checkpoint` compares every tensor's name and shape with the layout before anything is read, so a
wrong directory fails in milliseconds with the file, the tensor and what was expected.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Self, cast

import msgspec
import torch
from safetensors import SafetensorError, safe_open

from tandem.engine.checkpoint.files import read_json
from tandem.engine.checkpoint.layout import HEAD, IGNORED_SUFFIXES, Shapes
from tandem.engine.checkpoint.sharding import Span
from tandem.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_FLOAT_TYPES = {"F64", "F32", "F16", "BF16"}


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


class TensorView(Protocol):
    """What safetensors knows of a tensor before it is read; indexing reads."""

    def get_shape(self) -> list[int]: ...

    def get_dtype(self) -> str: ...

    def __getitem__(self, index: tuple[slice, ...]) -> torch.Tensor: ...


class SafetensorsFile(Protocol):
    """The part of the untyped `safe_open` handle that is used here."""

    def keys(self) -> list[str]: ...

    def get_slice(self, name: str) -> TensorView: ...


class Checkpoint:
    """An open checkpoint directory. Use as a context manager: it holds file mappings."""

    def __init__(self, directory: Path, expected: Shapes) -> None:
        """Raises CheckpointError for a missing, extra, misshapen or truncated tensor or file."""
        self._directory = directory
        self._handles: dict[str, SafetensorsFile] = {}
        self._files = _locate(directory)
        try:
            self._check(expected)
        except CheckpointError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._handles.clear()

    def read(
        self,
        name: str,
        dtype: torch.dtype,
        *,
        rows: Span | None = None,
        columns: Span | None = None,
    ) -> torch.Tensor:
        """The tensor, or a slice of its first and second dimension, as a new `dtype` tensor."""
        view = self._open(self._files[name]).get_slice(name)
        row_slice = slice(None) if rows is None else slice(rows.start, rows.stop)
        column_slice = () if columns is None else (slice(columns.start, columns.stop),)
        tensor = view[(row_slice, *column_slice)]
        # A copy: a view would keep the whole file mapped, and every page of it that was touched.
        return tensor.to(dtype, copy=True).contiguous()

    def _check(self, expected: Shapes) -> None:
        for name, shape in expected.items():
            if name not in self._files:
                raise CheckpointError(
                    f"{self._directory}: tensor {name} is missing; expected shape {list(shape)}"
                )
            self._check_tensor(name, shape)
        for name in self._files:
            # A tied checkpoint may still carry its head; the embedding is what counts.
            if name not in expected and name != HEAD and not name.endswith(IGNORED_SUFFIXES):
                raise CheckpointError(
                    f"{self._directory / self._files[name]}: tensor {name} is unexpected: "
                    "config.json describes a model without it"
                )

    def _check_tensor(self, name: str, shape: tuple[int, ...]) -> None:
        file = self._files[name]
        try:
            view = self._open(file).get_slice(name)
        except SafetensorError as error:
            raise CheckpointError(
                f"{self._directory / file}: tensor {name} is missing, though {INDEX_FILE} names "
                f"this file; expected shape {list(shape)}"
            ) from error
        if tuple(view.get_shape()) != shape:
            raise CheckpointError(
                f"{self._directory / file}: tensor {name} has shape {view.get_shape()}; "
                f"expected {list(shape)}"
            )
        if view.get_dtype() not in _FLOAT_TYPES:
            raise CheckpointError(
                f"{self._directory / file}: tensor {name} has dtype {view.get_dtype()}; "
                f"expected one of {sorted(_FLOAT_TYPES)}"
            )

    def _open(self, file: str) -> SafetensorsFile:
        if file not in self._handles:
            self._handles[file] = open_file(self._directory / file)
        return self._handles[file]


def open_file(path: Path) -> SafetensorsFile:
    """Maps one safetensors file. Raises CheckpointError when it is missing, cut or malformed."""
    try:
        return cast("SafetensorsFile", safe_open(path, framework="pt", device="cpu"))
    except (SafetensorError, OSError) as error:
        size = f"{path.stat().st_size} bytes" if path.exists() else "missing"
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({size}): {error}; copy or download it again"
        ) from error


def _locate(directory: Path) -> dict[str, str]:
    """Tensor name → file name, from the index or from the single file's own header."""
    index = directory / INDEX_FILE
    if index.exists():
        files = read_json(index, _Index).weight_map
        for name, file in files.items():
            if Path(file).name != file:
                raise CheckpointError(
                    f"{index}: {name} is mapped to {file!r}, not a plain file name"
                )
        return files
    single = directory / SINGLE_FILE
    if not single.exists():
        raise CheckpointError(f"{directory}: neither {SINGLE_FILE} nor {INDEX_FILE} is there")
    return dict.fromkeys(open_file(single).keys(), SINGLE_FILE)
