"""The tensors that a file has in place of one matrix, and what a scheme makes of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tandem.engine.checkpoint.quantized.numbers import float32
from tandem.engine.checkpoint.quantized.tensor import BYTE, Floats, QuantizedTensor
from tandem.engine.checkpoint.safetensors import Safetensors
from tandem.engine.checkpoint.schemes.settings import Settings
from tandem.engine.checkpoint.sharding import Span
from tandem.errors import CheckpointError

Array = npt.NDArray[Any]
WIDE = ("float32", "bfloat16", "float16")


class Part(NamedTuple):
    """What to read of a matrix: a run of rows, a run of columns, and of several matrices one."""

    rows: Span
    columns: Span
    entry: int | None = None

    def of(self, array: Array) -> Array:
        """Its rows, of (rows, ...) or with an entry of (entries, rows, ...)."""
        matrix = array if self.entry is None else array[self.entry]
        return matrix[self.height]

    @property
    def height(self) -> slice:
        return slice(self.rows.start, self.rows.stop)

    @property
    def width(self) -> slice:
        return slice(self.columns.start, self.columns.stop)


class Layout(NamedTuple):
    """How a matrix is kept: `bits` a code, a scale and maybe a minimum for `group` columns.

    `shape` has one more dimension in front where several are stacked. `label` is for people.
    """

    shape: tuple[int, ...]
    bits: int
    group: int
    minimums: bool
    label: str

    @property
    def nbytes(self) -> int:
        count = int(np.prod(self.shape, dtype=object))
        scales = count // self.group * np.dtype(np.float32).itemsize
        return count * self.bits // BYTE + scales * (2 if self.minimums else 1)


class Parts:
    """By their roles, those of one matrix. Whatever is wrong with one names it and its file.

    Some may not be there: asking for the shape of such a one is a fault too.
    """

    def __init__(self, source: Safetensors, stem: str, names: Mapping[str, str]) -> None:
        """`stem` is what the names begin with."""
        self.stem = stem
        self._source = source
        self._names = names

    def __contains__(self, role: str) -> bool:
        """Also False for what the scheme does not know."""
        return self._names.get(role) in self._source.files

    @property
    def present(self) -> list[str]:
        """The names of those that are there."""
        return [name for name in self._names.values() if name in self._source.files]

    def fault(self, role: str, what: str) -> CheckpointError:
        name = self._names[role]
        file = self._source.files.get(name) or self._source.files[self.present[0]]
        return CheckpointError(f"{file}: tensor {name} {what}")

    def dtype(self, role: str) -> str:
        """As `StoredTensor` has it."""
        return self._source.stored(self._names[role]).dtype

    def shape(
        self, role: str, dtypes: tuple[str, ...], dimensions: tuple[int, ...]
    ) -> tuple[int, ...]:
        """By its header. Raises CheckpointError where it is missing, or of another kind."""
        if role not in self:
            raise self.fault(role, f"is missing, which {self.present[0]} needs")
        stored = self._source.stored(self._names[role])
        shape, dtype = stored.shape, stored.dtype
        if dtype not in dtypes:
            raise self.fault(role, f"has dtype {dtype}; expected one of {dtypes}")
        if len(shape) not in dimensions:
            raise self.fault(role, f"has shape {list(shape)}; expected {dimensions} dimensions")
        if 0 in shape:
            raise self.fault(role, f"has shape {list(shape)}: it is empty")
        return shape

    def expect(self, role: str, dtypes: tuple[str, ...], shape: tuple[int, ...]) -> None:
        """Raises CheckpointError for another dtype or shape."""
        found = self.shape(role, dtypes, (len(shape),))
        if found != shape:
            raise self.fault(role, f"has shape {list(found)}; expected {list(shape)}")

    def array(self, role: str) -> Array:
        """A view of the file. Formats that NumPy does not have come as unsigned integers."""
        return self._source.array(self._names[role])

    def floats(self, role: str, index: tuple[Any, ...] = ()) -> Floats:
        return float32(self.array(role)[index], self.dtype(role))

    @property
    def nbytes(self) -> int:
        """In the file."""
        return sum(self._source.array(name).nbytes for name in self.present)


class Scheme(ABC):
    """One way to store a matrix as other tensors.

    Their names are one stem with `suffixes`, by roles: any of the `markers` tells that there is
    one. It is then called the stem with `presents`. Tensors whose names end in one of `ignored`
    are not read.
    """

    suffixes: Mapping[str, str]
    markers: tuple[str, ...]
    presents: str = ".weight"
    ignored: tuple[str, ...] = ()

    @abstractmethod
    def __init__(self, settings: Settings) -> None:
        """Raises CheckpointError for settings that are not supported."""

    @abstractmethod
    def layout(self, parts: Parts) -> Layout:
        """By the headers. Raises CheckpointError for what does not fit together."""

    @abstractmethod
    def read(self, parts: Parts, part: Part) -> QuantizedTensor:
        """Raises CheckpointError for numbers that mean nothing."""

    def names(self, parts: Parts, layout: Layout) -> Iterator[tuple[str, int | None]]:  # noqa: ARG002
        """What the matrix is called; of a stack of several each one, with its place there."""
        yield parts.stem + self.presents, None
