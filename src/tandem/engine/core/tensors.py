"""What a link needs of a backend's tensors: their bytes, sums, and parts.

Whoever carries tensors between ranks knows no library: it is given the backend's `TensorOps`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec

#: A tensor of the backend that computes.
Tensor = TypeVar("Tensor")


class RawTensor(msgspec.Struct, frozen=True):
    """A tensor as bytes: the last dimension is contiguous. `dtype` is `float32`, `bfloat16`, ..."""

    dtype: str
    shape: list[int]
    data: memoryview | bytearray


class TensorOps(Protocol[Tensor]):
    """Stateless; may be used from any thread. The first dimension of a tensor are its rows."""

    def rows(self, tensor: Tensor) -> int: ...

    def nbytes(self, tensor: Tensor) -> int: ...

    def to_raw(self, tensor: Tensor) -> RawTensor:
        """The numbers of a tensor, copied only where they aren't contiguous in main memory."""
        ...

    def from_raw(self, raw: RawTensor, like: Tensor) -> Tensor:
        """A tensor on `like`'s device, checked against its dtype and all but its last dimension.

        May keep the memory of `raw`. Raises ProtocolError.
        """
        ...

    def sum(self, parts: Sequence[Tensor]) -> Tensor:
        """Same shape and dtype as each; added up in the order of `parts`, in float32.

        So it is the same to the bit wherever it is computed.
        """
        ...

    def split(self, tensor: Tensor, parts: int) -> list[Tensor]:
        """So many runs of rows, whose lengths differ by one at most, in order; they are views."""
        ...

    def join(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """The parts one after the other along a dimension; the others are alike."""
        ...
