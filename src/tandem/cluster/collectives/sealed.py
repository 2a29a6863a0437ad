"""The collectives of a session, over its channels. Sums are the same to the bit on every rank.

Two ranks, and small tensors, exchange directly: each sends what it has to all others and adds up
in the order of ranks. Large tensors among more ranks go the usual two ways (reduce-scatter, then
all-gather: Thakur et al., 2005): each rank owns a part of the rows, adds it up and hands it out.
"""

from __future__ import annotations

import torch

from tandem.cluster.collectives.tensors import read_tensor, tensor_bytes, tensor_header
from tandem.errors import LinkLost, ProtocolError
from tandem.link import Channel
from tandem.protocol.cluster import FailureHeader, TensorHeader, ToRank

#: Above this many bytes more than two ranks share the work of adding up.
_DIRECT_BYTES = 32 * 1024


class LinkCommunicator:
    """One rank's side of the group; all calls come from the thread that runs the steps."""

    def __init__(self, rank: int, channels: dict[int, Channel]) -> None:
        """`channels` has one to every other rank. Raises ProtocolError for any other group."""
        self.rank = rank
        self.size = len(channels) + 1
        if set(channels) != set(range(self.size)) - {rank}:
            raise ProtocolError(
                f"rank {rank} has channels to {sorted(channels)}: not a whole group"
            )
        self._channels = channels
        self._sent = dict.fromkeys(channels, 0)
        self._received = dict.fromkeys(channels, 0)
        self._step = 0

    def begin(self, step: int) -> None:
        """Every tensor from now on belongs to this step."""
        self._step = step

    def all_reduce(self, tensor: torch.Tensor) -> torch.Tensor:
        """Raises LinkLost or ProtocolError, as everything here does."""
        if self.size == 2:
            return self._reduce_with(1 - self.rank, tensor)
        if tensor.nbytes <= _DIRECT_BYTES or len(tensor) < self.size:
            return _sum(self._exchange([tensor] * self.size))
        return self._reduce_scattered(tensor)

    def gather(self, tensor: torch.Tensor) -> torch.Tensor | None:
        if self.rank != 0:
            self.send(tensor, 0)
            return None
        others = [self.receive(tensor, rank) for rank in range(1, self.size)]
        return torch.cat([tensor, *others], dim=-1)

    def send(self, tensor: torch.Tensor, rank: int) -> None:
        self._channels[rank].send(self._header(tensor, rank), tensor_bytes(tensor))

    def receive(self, like: torch.Tensor, rank: int) -> torch.Tensor:
        """A tensor of `like`'s dtype, device and shape but for the last dimension."""
        header, payload = self._channels[rank].receive()
        return read_tensor(self._checked(header, rank), payload, like)

    def _reduce_with(self, other: int, tensor: torch.Tensor) -> torch.Tensor:
        theirs = self._swap(other, tensor, tensor)
        # Two numbers give the same sum in either order, to the bit.
        return tensor + theirs

    def _reduce_scattered(self, tensor: torch.Tensor) -> torch.Tensor:
        rows = len(tensor)
        bounds = [rows * rank // self.size for rank in range(self.size + 1)]
        parts = [tensor[bounds[rank] : bounds[rank + 1]] for rank in range(self.size)]
        own = _sum(self._exchange(parts))
        return torch.cat(self._spread(own, parts))

    def _exchange(self, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        """Sends `parts[r]` to each rank r; returns what each has for this one, in rank order."""
        received = {self.rank: parts[self.rank]}
        for other in self._partners():
            received[other] = self._swap(other, parts[other], parts[self.rank])
        return [received[rank] for rank in range(self.size)]

    def _spread(self, own: torch.Tensor, parts: list[torch.Tensor]) -> list[torch.Tensor]:
        whole = {self.rank: own}
        for other in self._partners():
            whole[other] = self._swap(other, own, parts[other])
        return [whole[rank] for rank in range(self.size)]

    def _partners(self) -> list[int]:
        """The other ranks, in an order in which all pairs meet without waiting in a circle."""
        return sorted(self._channels, key=lambda other: ((self.rank + other) % self.size, other))

    def _swap(self, other: int, outgoing: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        header, payload = self._channels[other].swap(
            self._header(outgoing, other), tensor_bytes(outgoing)
        )
        return read_tensor(self._checked(header, other), payload, like)

    def _header(self, tensor: torch.Tensor, rank: int) -> TensorHeader:
        self._sent[rank] += 1
        return tensor_header(self._step, self._sent[rank], tensor)

    def _checked(self, header: ToRank, rank: int) -> TensorHeader:
        if isinstance(header, FailureHeader):
            raise LinkLost(f"rank {rank} failed: {header.message}")
        self._received[rank] += 1
        due = (self._step, self._received[rank])
        if not isinstance(header, TensorHeader) or (header.step, header.number) != due:
            raise ProtocolError(
                f"{header} came from rank {rank}; tensor {due[1]} of step {due[0]} was due"
            )
        return header


def _sum(parts: list[torch.Tensor]) -> torch.Tensor:
    """In rank order, in float32: narrow types would round after each addition."""
    total = parts[0].float()
    for part in parts[1:]:
        total = total + part.float()
    return total.to(parts[0].dtype)
