"""Sums through `torch.distributed` (gloo, NCCL) in place of the sealed link. Not encrypted.

Only for operators who say so, on a link that nobody else can reach. Plans, logits and everything
else stay on the sealed channels.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Protocol

import torch
from torch import distributed

from tandem.cluster.collectives.rendezvous import Rendezvous
from tandem.cluster.collectives.sealed import SealedCommunicator
from tandem.errors import LinkLost, ProtocolError
from tandem.protocol.cluster import Collectives

#: PyTorch's stubs leave most of these names out.
_torch: Any = distributed


class _Work(Protocol):
    def wait(self) -> object: ...


class _ProcessGroup(Protocol):
    """The part of a process group that is used here."""

    def rank(self) -> int: ...

    def size(self) -> int: ...

    def allreduce(self, tensors: list[torch.Tensor]) -> _Work: ...


class TorchCommunicator:
    """One rank of a process group that is its session's own: nothing global is set up.

    `Communicator` of `tandem.engine.core.communicator`; what it gathers goes over the links.
    """

    def __init__(
        self,
        links: SealedCommunicator[torch.Tensor],
        collectives: Collectives,
        rendezvous: Rendezvous,
    ) -> None:
        """Blocks until all ranks are there.

        Raises LinkLost when they do not come, ProtocolError for a group of another size or rank.
        """
        self._links = links
        self.rank, self.size = links.rank, links.size
        try:
            self._group = _process_group(collectives, links.rank, links.size, rendezvous)
        except RuntimeError as error:
            raise LinkLost(f"no {collectives} group came about: {error}") from error
        check_group(self._group.rank(), self._group.size(), self.rank, self.size)

    def begin(self, step: int) -> None:
        self._links.begin(step)

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        summed = tensor.contiguous()
        try:
            self._group.allreduce([summed]).wait()
        except RuntimeError as error:
            raise LinkLost(f"the sum over the ranks failed: {error}") from error
        return summed

    def gather(self, tensor: torch.Tensor) -> torch.Tensor | None:
        return self._links.gather(tensor)


def check_group(rank: int, size: int, planned_rank: int, planned_size: int) -> None:
    """Raises ProtocolError for a group that is not exactly the one that was planned."""
    if (rank, size) != (planned_rank, planned_size):
        raise ProtocolError(
            f"the group made this rank {rank} of {size}; rank {planned_rank} of {planned_size}"
            " was planned"
        )


def _process_group(
    collectives: Collectives, rank: int, size: int, rendezvous: Rendezvous
) -> _ProcessGroup:
    timeout = timedelta(seconds=rendezvous.timeout_s)
    store = _torch.TCPStore(
        rendezvous.host,
        rendezvous.port,
        size,
        is_master=rank == 0,
        timeout=timeout,
        wait_for_workers=False,
    )
    kind = _torch.ProcessGroupNCCL if collectives is Collectives.NCCL else _torch.ProcessGroupGloo
    options = kind.Options() if collectives is Collectives.NCCL else kind._Options()  # noqa: SLF001
    options._timeout = timeout  # noqa: SLF001 - there is no public way to set it
    if collectives is Collectives.GLOO:
        options._devices = [kind.create_device(hostname=rendezvous.own_host)]  # noqa: SLF001
    group: _ProcessGroup = kind(store, rank, size, options)
    return group
