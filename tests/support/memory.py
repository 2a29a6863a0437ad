"""Ranks without sockets, and without a library that computes: queues, and rows of numbers."""

from __future__ import annotations

import math
import queue
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tandem.engine.core.tensors import RawTensor
from tandem.errors import LinkLost, ProtocolError
from tandem.link import Buffer, Channel
from tandem.protocol.cluster import ToRank

T = TypeVar("T")

TIMEOUT_S = 60.0
Frame = tuple[ToRank, bytearray]
#: Rows of numbers.
Rows = list[list[float]]


class MemoryChannel:
    """`tandem.link.Channel` between two threads."""

    def __init__(
        self, incoming: queue.Queue[Frame | None], outgoing: queue.Queue[Frame | None]
    ) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def send(self, header: ToRank, payload: Buffer = b"") -> None:
        self._outgoing.put((header, bytearray(payload)))

    def receive(self, *, patient: bool = False) -> Frame:  # noqa: ARG002 - the interface's
        frame = self._incoming.get(timeout=TIMEOUT_S)
        if frame is None:
            self._incoming.put(None)
            raise LinkLost("the channel was aborted")
        return frame

    def swap(self, header: ToRank, payload: Buffer) -> Frame:
        self.send(header, payload)
        return self.receive()

    def abort(self) -> None:
        self._incoming.put(None)
        self._outgoing.put(None)

    def close(self) -> None:
        self.abort()


def memory_mesh(size: int) -> list[dict[int, Channel]]:
    """Each rank's channels to all others."""
    mesh: list[dict[int, Channel]] = [{} for _ in range(size)]
    for low in range(size):
        for high in range(low + 1, size):
            up, down = queue.Queue[Frame | None](), queue.Queue[Frame | None]()
            mesh[low][high] = MemoryChannel(down, up)
            mesh[high][low] = MemoryChannel(up, down)
    return mesh


class ListTensors:
    """`tandem.engine.core.tensors.TensorOps` of rows of numbers."""

    def rows(self, tensor: Rows) -> int:
        return len(tensor)

    def nbytes(self, tensor: Rows) -> int:
        return 8 * sum(map(len, tensor))

    def to_raw(self, tensor: Rows) -> RawTensor:
        numbers = array("d", [number for row in tensor for number in row])
        shape = [len(tensor), len(tensor[0]) if tensor else 0]
        return RawTensor("float64", shape, bytearray(numbers.tobytes()))

    def from_raw(self, raw: RawTensor, like: Rows) -> Rows:
        if raw.dtype != "float64" or raw.shape[0] != len(like):
            raise ProtocolError(f"a {raw.dtype} tensor {raw.shape} came")
        assert 8 * math.prod(raw.shape) == len(raw.data)
        numbers, columns = array("d", bytes(raw.data)).tolist(), raw.shape[1]
        return [numbers[row * columns : (row + 1) * columns] for row in range(raw.shape[0])]

    def sum(self, parts: Sequence[Rows]) -> Rows:
        total = [list(row) for row in parts[0]]
        for part in parts[1:]:
            total = [
                [a + b for a, b in zip(x, y, strict=True)] for x, y in zip(total, part, strict=True)
            ]
        return total

    def split(self, tensor: Rows, parts: int) -> list[Rows]:
        ends = [len(tensor) * part // parts for part in range(parts + 1)]
        return [tensor[ends[part] : ends[part + 1]] for part in range(parts)]

    def join(self, parts: Sequence[Rows], axis: int) -> Rows:
        if axis == 0:
            return [row for part in parts for row in part]
        return [[number for row in rows for number in row] for rows in zip(*parts, strict=True)]


def on_all_ranks(size: int, work: Callable[[int], T]) -> list[T]:
    """What `work(rank)` gives on each, all at once; raises the lowest rank's error."""
    with ThreadPoolExecutor(size) as pool:
        running = [pool.submit(work, rank) for rank in range(size)]
    return [each.result() for each in running]
