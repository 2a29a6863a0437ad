"""The tensors of a checkpoint: names, shapes, and how ranks share them. A family states its own.

Shapes are (out_features, in_features), as Hugging Face stores them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from enum import Enum
from typing import Generic, TypeVar

import msgspec


class Axis(Enum):
    """What tensor-parallel ranks divide among them."""

    KV_HEADS = "kv_heads"
    COLUMNS = "columns"
    VOCABULARY = "vocabulary"


class Division(msgspec.Struct, frozen=True):
    """A dimension of a tensor has `each` numbers for one of `axis`: head_dim for a KV head."""

    axis: Axis
    each: int = 1


class TensorSpec(msgspec.Struct, frozen=True):
    """A tensor; `rows` and `columns` say what divides its first and its second dimension.

    Random numbers in place of trained ones scatter about `mean`.
    """

    name: str
    shape: tuple[int, ...]
    rows: Division | None = None
    columns: Division | None = None
    mean: float = 0.0

    @property
    def count(self) -> int:
        return math.prod(self.shape)


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
) -> Projection:
    """`name.weight`, and with a bias `name.bias`."""
    weight = TensorSpec(f"{name}.weight", shape, rows, columns)
    return Projection(weight, TensorSpec(f"{name}.bias", shape[:1], rows) if bias else None)


def norm(name: str, width: int) -> TensorSpec:
    return TensorSpec(f"{name}.weight", (width,), mean=1.0)


Layer = TypeVar("Layer", bound=msgspec.Struct)


class DecoderTensors(msgspec.Struct, Generic[Layer], frozen=True):
    """All of a model's. A family's `Layer` is a struct of specs, projections, and None."""

    embedding: TensorSpec
    final_norm: TensorSpec
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
