"""What ranks say to each other within a step; the cluster implements it over its links.

`Communicator` is what a sharded model calls; `Neighbours` is for strategies that pass states on.
"""

from __future__ import annotations

from typing import Generic, Protocol

from tandem.engine.core.tensors import Tensor


class RankGroup(Protocol):
    """Ranks that run the same steps in the same order."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def begin(self, step: int) -> None:
        """Every tensor from now on belongs to this step. Called before each forward pass."""
        ...


class Communicator(RankGroup, Protocol[Tensor]):
    """The collectives. All ranks call the same ones in the same order, from one thread each.

    Each raises LinkLost when a rank is gone, ProtocolError when it is in another step.
    """

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, same shape and dtype on each; may reuse the argument's memory."""
        ...

    def gather(self, tensor: Tensor) -> Tensor | None:
        """On rank 0 the ranks' tensors joined along the last dimension, in rank order; else None.

        Only the last dimension may differ between ranks.
        """
        ...


class Neighbours(RankGroup, Protocol[Tensor]):
    """Tensors from one rank to another. Raises as `Communicator` does."""

    def send(self, tensor: Tensor, rank: int) -> None: ...

    def receive(self, like: Tensor, rank: int) -> Tensor:
        """A tensor of `like`'s dtype, device and shape but for the last dimension."""
        ...


class Solo(Generic[Tensor]):
    """The group of one: every collective is the identity."""

    rank = 0
    size = 1

    def begin(self, step: int) -> None:
        """There is nobody to be in step with."""

    def all_reduce(self, tensor: Tensor) -> Tensor:
        return tensor

    def gather(self, tensor: Tensor) -> Tensor | None:
        return tensor
