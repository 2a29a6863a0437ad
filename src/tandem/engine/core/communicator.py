"""The collectives that a sharded model needs; the cluster implements them over its links."""

from __future__ import annotations

from typing import Generic, Protocol

from tandem.engine.core.tensors import Tensor


class Communicator(Protocol[Tensor]):
    """A group of ranks that run the same steps in the same order."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, same shape and dtype on each; may reuse the argument's memory."""
        ...

    def gather(self, tensor: Tensor) -> Tensor | None:
        """On rank 0 the ranks' tensors joined along the last dimension, in rank order; else None.

        Only the last dimension may differ between ranks.
        """
        ...


class Solo(Generic[Tensor]):
    """The group of one: every collective is the identity."""

    rank = 0
    size = 1

    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor

    def gather(self, tensor: Tensor) -> Tensor | None:
        return tensor
