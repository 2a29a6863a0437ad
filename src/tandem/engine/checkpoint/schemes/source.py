"""Quantised safetensors as a source of weights: each matrix by its own name, whatever stores it.

Which modules are quantised is what the files hold, so that lists of those that are not, and of
those with settings of their own, need no reading; all else is read as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tandem.engine.checkpoint.libraries import as_tensor
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor
from tandem.engine.checkpoint.safetensors import Safetensors
from tandem.engine.checkpoint.schemes.parts import Layout, Part, Parts, Scheme
from tandem.engine.checkpoint.sharding import Span
from tandem.engine.checkpoint.weights import StoredTensor, by_name

_BIAS = ".bias"


class _Matrix(NamedTuple):
    """With an `entry` one of those that the parts store together."""

    parts: Parts
    layout: Layout
    entry: int | None


class QuantizedSafetensors:
    """`tandem.engine.checkpoint.weights.WeightSource` of what a scheme has quantised."""

    def __init__(self, plain: Safetensors, scheme: Scheme, library: str) -> None:
        """Raises CheckpointError for a matrix of which something is missing or does not fit."""
        self._plain, self._scheme, self._library = plain, scheme, library
        self._matrices = by_name(_matrices(plain, scheme), plain.directory)
        stored = {part for matrix in self._matrices.values() for part in matrix.parts.present}
        files = {name: file for name, file in plain.files.items() if name not in stored}
        for name, matrix in self._matrices.items():
            files[name] = plain.files[matrix.parts.present[0]]
        self.files: Mapping[str, Path] = {
            name: file for name, file in files.items() if not name.endswith(scheme.ignored)
        }

    def stored(self, name: str) -> StoredTensor:
        matrix = self._matrices.get(name)
        if matrix is None:
            return self._plain.stored(name)._replace(idle=self._is_idle(name))
        shape = matrix.layout.shape if matrix.entry is None else matrix.layout.shape[1:]
        nbytes = matrix.layout.nbytes // (1 if matrix.entry is None else matrix.layout.shape[0])
        return StoredTensor(shape, matrix.layout.label, quantized=True, nbytes=nbytes)

    def read(
        self,
        name: str,
        rows: Span | None = None,
        columns: Span | None = None,
        entry: int | None = None,
    ) -> Any:  # noqa: ANN401 - a library's tensor
        tensor = self.quantized(name, rows, columns, entry)
        if tensor is None:
            return self._plain.read(name, rows, columns, entry)
        return as_tensor(tensor.dequantize(), self._library)

    def quantized(
        self,
        name: str,
        rows: Span | None = None,
        columns: Span | None = None,
        entry: int | None = None,
    ) -> QuantizedTensor | None:
        matrix = self._matrices.get(name)
        if matrix is None:
            return None
        height, width = matrix.layout.shape[-2:]
        own = entry if matrix.entry is None else matrix.entry
        part = Part(rows or Span(0, height), columns or Span(0, width), own)
        with np.errstate(all="ignore"):  # numbers that are too large are infinite
            return self._scheme.read(matrix.parts, part)

    def close(self) -> None:
        self._plain.close()

    def _is_idle(self, name: str) -> bool:
        """A bias of zeros: quantisers give one to every matrix, whatever model it is of."""
        matrix = name.removesuffix(_BIAS) + self._scheme.presents
        return (
            name.endswith(_BIAS) and matrix in self._matrices and not self._plain.array(name).any()
        )


def _matrices(plain: Safetensors, scheme: Scheme) -> Iterator[tuple[str, _Matrix]]:
    for stem, names in _found(scheme, plain.files):
        parts = Parts(plain, stem, names)
        layout = scheme.layout(parts)
        for name, entry in scheme.names(parts, layout):
            yield name, _Matrix(parts, layout, entry)


def _found(scheme: Scheme, files: Mapping[str, Path]) -> Iterable[tuple[str, dict[str, str]]]:
    """Each quantised matrix's stem, and the names of what may store it by role."""
    marks = tuple(scheme.suffixes[role] for role in scheme.markers)
    stems = dict.fromkeys(
        name.removesuffix(mark) for name in files for mark in marks if name.endswith(mark)
    )
    for stem in stems:
        yield stem, {role: stem + suffix for role, suffix in scheme.suffixes.items()}
