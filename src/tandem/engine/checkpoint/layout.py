"""The tensors of a checkpoint: names, shapes, and how ranks share them. A family states its own.

Shapes are (out_features, in_features), as Hugging Face stores them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from enum import Enum
from types import MappingProxyType
from typing import Generic, TypeVar

import msgspec


class Axis(Enum):
    """What tensor-parallel ranks divide among them."""

    KV_HEADS = "kv_heads"
    COLUMNS = "columns"
    SHARED_COLUMNS = "shared_columns"
    VOCABULARY = "vocabulary"


class Division(msgspec.Struct, frozen=True):
    """A dimension of a tensor has `each` numbers for one of `axis`: head_dim for a KV head."""

    axis: Axis
    each: int = 1


class Place(msgspec.Struct, frozen=True):
    """Where in a larger tensor of a file another one is.

    Its rows begin at `first_row` there and are each `every`th. With an `entry`, an expert's number,
    the file's tensor has one more dimension in front. A `transposed` one has rows for columns.
    """

    shape: tuple[int, ...]
    first_row: int = 0
    every: int = 1
    entry: int | None = None
    transposed: bool = False

    @property
    def rows(self) -> int:
        """Of the larger tensor, or of the entry."""
        return self.shape[-1] if self.transposed else self.shape[self.entry is not None]


class Pairs(msgspec.Struct, frozen=True):
    """Of each head's numbers, `each` of them, `rotated` are pairs that rotate together.

    They are behind the `first` ones. Layers rotate halves: they want the firsts of all pairs before
    the seconds. Heads are one after another in dimension `axis` of a tensor.
    """

    each: int
    rotated: int
    axis: int = 0
    first: int = 0

    def halved(self, extent: int) -> list[int]:
        """The places in a file's dimension, of whole heads, in the order that layers want."""
        numbers = range(self.each)
        end = self.first + self.rotated
        rotated = numbers[self.first : end]
        head = [*numbers[: self.first], *rotated[::2], *rotated[1::2], *numbers[end:]]
        return [start + row for start in range(0, extent, self.each) for row in head]


class TensorSpec(msgspec.Struct, frozen=True):
    """A tensor; `rows` and `columns` say what divides its first and its second dimension.

    Random numbers in place of trained ones scatter about `mean`. With a `place` it is a part of
    the tensor that the file has under this name, with `pairs` the file has heads in that order.
    """

    name: str
    shape: tuple[int, ...]
    rows: Division | None = None
    columns: Division | None = None
    mean: float = 0.0
    place: Place | None = None
    pairs: Pairs | None = None

    @property
    def count(self) -> int:
        return math.prod(self.shape)

    @property
    def file_shape(self) -> tuple[int, ...]:
        """Of the file's tensor."""
        return self.shape if self.place is None else self.place.shape

    @property
    def entry(self) -> int | None:
        return None if self.place is None else self.place.entry


class WeightBytes(msgspec.Struct, frozen=True):
    """What tensors take in memory: `each` a number.

    Those of `kept` stay as their files have them, by name so many bytes a number.
    """

    each: float
    kept: Mapping[str, float] = MappingProxyType({})

    def of(self, spec: TensorSpec) -> int:
        return round(spec.count * self.kept.get(spec.name, self.each))


class Projection(msgspec.Struct, frozen=True):
    """A linear map."""

    weight: TensorSpec
    bias: TensorSpec | None


def projection(
    name: str,
    shape: tuple[int, int],
    *,
    bias: bool = False,
    rows: Division | None = None,
    columns: Division | None = None,
    pairs: Pairs | None = None,
) -> Projection:
    """`name.weight`, and with a bias `name.bias`."""
    weight = TensorSpec(f"{name}.weight", shape, rows, columns, pairs=pairs)
    biases = TensorSpec(f"{name}.bias", shape[:1], rows, pairs=pairs) if bias else None
    return Projection(weight, biases)


def fused(name: str, *projections: Projection) -> list[Projection]:
    """The same maps where a file has them in one, `name.weight`, their outputs one after another.

    All of them have a bias, which is a part of `name.bias`, or none has.
    """
    weights = _joined(f"{name}.weight", [one.weight for one in projections])
    biases = [one.bias for one in projections if one.bias is not None]
    if not biases:
        return [Projection(weight, None) for weight in weights]
    return list(map(Projection, weights, _joined(f"{name}.bias", biases)))


def _joined(name: str, parts: list[TensorSpec]) -> list[TensorSpec]:
    starts = [0, *itertools.accumulate(part.shape[0] for part in parts)]
    return [
        msgspec.structs.replace(
            part, name=name, place=Place((starts[-1], *part.shape[1:]), first_row=start)
        )
        for part, start in zip(parts, starts, strict=False)
    ]


class Norm(msgspec.Struct, frozen=True):
    weight: TensorSpec
    bias: TensorSpec | None = None


def norm(
    name: str,
    width: int,
    *,
    rows: Division | None = None,
    offset: float = 0.0,
    bias: bool = False,
) -> Norm:
    """`name.weight`, which is multiplied by after `offset` has been added, and `name.bias`."""
    weight = TensorSpec(f"{name}.weight", (width,), rows, mean=1.0 - offset)
    return Norm(weight, TensorSpec(f"{name}.bias", (width,), rows) if bias else None)


Layer = TypeVar("Layer", bound=msgspec.Struct)


class DecoderTensors(msgspec.Struct, Generic[Layer], frozen=True):
    """All of a model's. A family's `Layer` is a struct of specs, projections, and None."""

    embedding: TensorSpec
    final_norm: Norm
    head: TensorSpec | None  # None: the embedding, tied
    layers: tuple[Layer, ...]


def specs_of(tensors: object) -> Iterator[TensorSpec]:
    """Every tensor of a model, a layer or a projection, in the order of the fields."""
    if isinstance(tensors, TensorSpec):
        yield tensors
    elif isinstance(tensors, tuple):
        for part in tensors:
            yield from specs_of(part)
    elif isinstance(tensors, msgspec.Struct):
        yield from specs_of(msgspec.structs.astuple(tensors))
