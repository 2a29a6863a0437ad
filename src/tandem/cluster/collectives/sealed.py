"""Collectives over a session's sealed channels. Sums are the same to the bit on every rank.

Two ranks, and small tensors, exchange directly: each sends what it has to all others and adds up
in the order of ranks. Large tensors among more ranks go the usual two ways (reduce-scatter, then
all-gather: Thakur et al., 2005): each rank owns a part of the rows, adds it up and hands it out.
"""

from __future__ import annotations

from typing import Generic

from tandem.engine import RawTensor, Tensor, TensorOps
from tandem.errors import LinkLost, ProtocolError
from tandem.link import Channel
from tandem.protocol.cluster import FailureHeader, TensorHeader, ToRank

#: Above this many bytes more than two ranks share the work of adding up.
_DIRECT_BYTES = 32 * 1024


class SealedCommunicator(Generic[Tensor]):
    """One rank's side: `Communicator` and `Neighbours` of `tandem.engine.core.communicator`.

    All calls come from the thread that runs the steps, and raise LinkLost or ProtocolError.
    """

    def __init__(self, rank: int, channels: dict[int, Channel], tensors: TensorOps[Tensor]) -> None:
        """`channels` has one to every other rank. Raises ProtocolError for any other group."""
        self.rank = rank
        self.size = len(channels) + 1
        if set(channels) != set(range(self.size)) - {rank}:
            raise ProtocolError(
                f"rank {rank} has channels to {sorted(channels)}: not a whole group"
            )
        self._channels = channels
        # In an order in which all pairs of ranks meet without waiting in a circle.
        self._partners = sorted(channels, key=lambda other: ((rank + other) % self.size, other))
        self._tensors = tensors
        self._sent = dict.fromkeys(channels, 0)
        self._received = dict.fromkeys(channels, 0)
        self._step = 0

    def begin(self, step: int) -> None:
        self._step = step

    def all_reduce(self, tensor: Tensor) -> Tensor:
        ops = self._tensors
        direct = self.size == 2 or ops.nbytes(tensor) <= _DIRECT_BYTES
        if direct or ops.rows(tensor) < self.size:
            return ops.sum(self._exchange([tensor] * self.size))
        parts = ops.split(tensor, self.size)
        return ops.join(self._spread(ops.sum(self._exchange(parts)), parts), 0)

    def gather(self, tensor: Tensor) -> Tensor | None:
        if self.rank != 0:
            self.send(tensor, 0)
            return None
        others = [self.receive(tensor, rank) for rank in range(1, self.size)]
        return self._tensors.join([tensor, *others], -1)

    def send(self, tensor: Tensor, rank: int) -> None:
        raw = self._tensors.to_raw(tensor)
        self._channels[rank].send(self._header(raw, rank), raw.data)

    def receive(self, like: Tensor, rank: int) -> Tensor:
        header, payload = self._channels[rank].receive()
        return self._tensors.from_raw(self._checked(header, payload, rank), like)

    def _exchange(self, parts: list[Tensor]) -> list[Tensor]:
        """Sends `parts[r]` to each rank r; returns what each has for this one, in rank order."""
        received = [parts[self.rank]] * self.size
        for other in self._partners:
            received[other] = self._swap(other, parts[other], parts[self.rank])
        return received

    def _spread(self, own: Tensor, parts: list[Tensor]) -> list[Tensor]:
        """Sends `own` to all; returns what each rank has, in rank order, like `parts`."""
        whole = [own] * self.size
        for other in self._partners:
            whole[other] = self._swap(other, own, parts[other])
        return whole

    def _swap(self, other: int, outgoing: Tensor, like: Tensor) -> Tensor:
        raw = self._tensors.to_raw(outgoing)
        header, payload = self._channels[other].swap(self._header(raw, other), raw.data)
        return self._tensors.from_raw(self._checked(header, payload, other), like)

    def _header(self, raw: RawTensor, rank: int) -> TensorHeader:
        self._sent[rank] += 1
        return TensorHeader(self._step, self._sent[rank], raw.dtype, raw.shape)

    def _checked(self, header: ToRank, payload: bytearray, rank: int) -> RawTensor:
        if isinstance(header, FailureHeader):
            raise LinkLost(f"rank {rank} failed: {header.message}")
        self._received[rank] += 1
        due = (self._step, self._received[rank])
        if not isinstance(header, TensorHeader) or (header.step, header.number) != due:
            raise ProtocolError(
                f"{header} came from rank {rank}; tensor {due[1]} of step {due[0]} was due"
            )
        return RawTensor(header.dtype, header.shape, payload)
