"""Where weights come from: tensors by name, of which any slice can be read. A format implements it.

Every tensor's name and shape is compared with what the model's family states before anything is
read, so a wrong directory fails in milliseconds with the file, the tensor and what was expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from tandem.engine.checkpoint.sharding import Span
from tandem.errors import CheckpointError

if TYPE_CHECKING:
    from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

FLOAT_DTYPES = ("float64", "float32", "float16", "bfloat16")
#: Far above every model there is: small files may claim stacks of many experts.
_MAX_TENSORS = 2**19


class StoredTensor(NamedTuple):
    """`dtype` is one of `FLOAT_DTYPES`, or what the format calls another one.

    `quantized` says that such numbers can be read, as they are or dequantised; `nbytes` is what all
    of them then take in memory as they are. `idle` says that they are known to change nothing.
    """

    shape: tuple[int, ...]
    dtype: str
    quantized: bool = False
    nbytes: int = 0
    idle: bool = False


class WeightSource(Protocol[T_co]):
    """An open checkpoint. `T_co` is the tensor of the library that reads it."""

    @property
    def files(self) -> Mapping[str, Path]:
        """Each tensor's file."""
        ...

    def stored(self, name: str) -> StoredTensor:
        """Reads no numbers. Raises CheckpointError when the tensor is not in its file."""
        ...

    def read(
        self,
        name: str,
        rows: Span | None = None,
        columns: Span | None = None,
        entry: int | None = None,
    ) -> T_co:
        """The tensor, or a slice of its first and second dimension, in floating-point numbers.

        With an `entry`, those of one entry of a dimension in front. It may be a view of the file.
        Raises CheckpointError.
        """
        ...

    def quantized(
        self,
        name: str,
        rows: Span | None = None,
        columns: Span | None = None,
        entry: int | None = None,
    ) -> QuantizedTensor | None:
        """The same as it is stored, None where that is in floating-point numbers.

        Raises CheckpointError.
        """
        ...

    def close(self) -> None: ...


def by_name(tensors: Iterable[tuple[str, T]], directory: Path) -> dict[str, T]:
    """Raises CheckpointError for more than any model has, before all are made."""
    found = dict(islice(tensors, _MAX_TENSORS + 1))
    if len(found) > _MAX_TENSORS:
        raise CheckpointError(f"{directory}: more than {_MAX_TENSORS} tensors: not of a model")
    return found


def check_weights(
    source: WeightSource[object],
    directory: Path,
    expected: Mapping[str, tuple[int, ...]],
    ignored: tuple[str, ...],
) -> None:
    """Raises CheckpointError for a missing, extra, misshapen or truncated tensor or file.

    Names that begin or end with one of `ignored` may be there or not, and what is idle.
    """
    for name, shape in expected.items():
        if name not in source.files:
            raise CheckpointError(
                f"{directory}: tensor {name} is missing; expected shape {list(shape)}"
            )
        _check_tensor(source, name, shape)
    for name, file in source.files.items():
        if name in expected or name.startswith(ignored) or name.endswith(ignored):
            continue
        if not source.stored(name).idle:
            raise CheckpointError(
                f"{file}: tensor {name} is unexpected: config.json describes a model without it"
            )


def _check_tensor(source: WeightSource[object], name: str, shape: tuple[int, ...]) -> None:
    file, stored = source.files[name], source.stored(name)
    if stored.shape != shape:
        raise CheckpointError(
            f"{file}: tensor {name} has shape {list(stored.shape)}; expected {list(shape)}"
        )
    if stored.dtype not in FLOAT_DTYPES and not stored.quantized:
        raise CheckpointError(
            f"{file}: tensor {name} has dtype {stored.dtype}; expected one of {FLOAT_DTYPES}"
        )
