"""Weights whose tensors have other names in the files, or stand beside those of other models there.

A checkpoint of a model that sees has a text model in it; programs differ in how they call it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tandem.engine.checkpoint.sharding import Span
from tandem.engine.checkpoint.weights import StoredTensor, WeightSource

if TYPE_CHECKING:
    from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor

T_co = TypeVar("T_co", covariant=True)

#: What names in a file begin with, and what with here; None: they are not read. The first counts.
Beginnings = Mapping[str, str | None]


class Renamed(WeightSource[T_co]):
    """`source`, by other names."""

    def __init__(self, source: WeightSource[T_co], beginnings: Beginnings) -> None:
        self._source = source
        self._stored = {
            name: stored
            for stored in source.files
            if (name := renamed(stored, beginnings)) is not None
        }
        self._files = {name: source.files[stored] for name, stored in self._stored.items()}

    @property
    def files(self) -> Mapping[str, Path]:
        return self._files

    def stored(self, name: str) -> StoredTensor:
        return self._source.stored(self._stored[name])

    def read(
        self,
        name: str,
        rows: Span | None = None,
        columns: Span | None = None,
        entry: int | None = None,
    ) -> T_co:
        return self._source.read(self._stored[name], rows, columns, entry)

    def quantized(
        self,
        name: str,
        rows: Span | None = None,
        columns: Span | None = None,
        entry: int | None = None,
    ) -> QuantizedTensor | None:
        return self._source.quantized(self._stored[name], rows, columns, entry)

    def close(self) -> None:
        self._source.close()


def renamed(stored: str, beginnings: Beginnings) -> str | None:
    """What a file's tensor is called here."""
    for beginning, ours in beginnings.items():
        if stored.startswith(beginning):
            return None if ours is None else ours + stored.removeprefix(beginning)
    return stored
