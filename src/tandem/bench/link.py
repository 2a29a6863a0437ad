"""Sums over two ranks: through the sealed link, and through gloo in plaintext, in one run.

Both ranks are processes of this machine. For each size the two kinds take turns, batch by batch.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import time
from pathlib import Path

import msgspec
import torch

from tandem.bench.sealing import credentials, identity
from tandem.cluster import COLLECTIVES, Rendezvous, SealedCommunicator
from tandem.engine import Communicator, find_backend
from tandem.link import Channel, ControlLink, LinkListener, dial_data
from tandem.protocol.cluster import Collectives, DataHello
from tandem.runtime import free_port

SIZES = tuple(1024 << (2 * power) for power in range(8))  # 1 KiB to 16 MiB
_HOST, _SESSION = "127.0.0.1", "bench"
_TIMEOUT_S = 60.0
_BATCHES, _BATCH_S = 9, 0.05


class Latency(msgspec.Struct, frozen=True):
    """Median seconds of one sum of `size` bytes."""

    size: int
    sealed_s: float
    gloo_s: float

    @property
    def ratio(self) -> float:
        return self.sealed_s / self.gloo_s


class _Rank(msgspec.Struct, frozen=True):
    """What one of the two processes needs to know."""

    rank: int
    folder: Path
    port: int
    meeting: Rendezvous


def measure_link(folder: Path) -> list[Latency]:
    """Raises LinkLost when the other process does not come."""
    return asyncio.run(_first_rank(folder))


async def _first_rank(folder: Path) -> list[Latency]:
    listener = LinkListener(credentials(folder, 0), (_HOST, 0))
    async with asyncio.TaskGroup() as tasks:
        accepting = tasks.create_task(listener.run(ControlLink.close))
        latencies = await _against_another_process(folder, listener)
        accepting.cancel()
    return latencies


async def _against_another_process(folder: Path, listener: LinkListener) -> list[Latency]:
    one = _Rank(1, folder, listener.port, Rendezvous(_HOST, free_port(), _HOST, _TIMEOUT_S))
    child = multiprocessing.get_context("spawn").Process(target=_other_rank, args=(one,))
    child.start()
    try:
        expected = {1: identity(folder, 1).node_id}
        channels = await listener.claim(
            _SESSION, expected, deadline_s=_TIMEOUT_S, timeout_s=_TIMEOUT_S
        )
        return await asyncio.to_thread(_measure, 0, channels, one.meeting)
    finally:
        child.join(_TIMEOUT_S)
        child.kill()


def _other_rank(one: _Rank) -> None:
    own = credentials(one.folder, one.rank)
    zero = identity(one.folder, 0).node_id
    hello = DataHello(_SESSION, one.rank)
    channel = dial_data(own, (_HOST, one.port), zero, hello, timeout_s=_TIMEOUT_S)
    _measure(one.rank, {0: channel}, one.meeting)


def _measure(rank: int, channels: dict[int, Channel], meeting: Rendezvous) -> list[Latency]:
    torch.set_num_threads(1)
    sealed = SealedCommunicator(rank, channels, find_backend("pytorch").tensors)
    gloo = COLLECTIVES[Collectives.GLOO](sealed, meeting)
    latencies = []
    for size in SIZES:
        tensor = torch.ones(1, size // 4)
        count = _agreed_count(sealed, tensor)
        groups: list[Communicator[torch.Tensor]] = [sealed, gloo]
        taken: list[list[float]] = [[] for _ in groups]
        for _ in range(_BATCHES):
            for group, seconds in zip(groups, taken, strict=True):
                group.all_reduce(tensor)  # both ranks are here now
                started = time.perf_counter()
                for _ in range(count):
                    group.all_reduce(tensor)
                seconds.append((time.perf_counter() - started) / count)
        medians = [statistics.median(seconds) for seconds in taken]
        latencies.append(Latency(size, *medians))
    for channel in channels.values():
        channel.close()
    return latencies


def _agreed_count(group: Communicator[torch.Tensor], tensor: torch.Tensor) -> int:
    """How many sums make a batch: rank 0's own figure, added to nothing by the other."""
    started = time.perf_counter()
    group.all_reduce(tensor)
    own = max(3, min(500, int(_BATCH_S / (time.perf_counter() - started))))
    told = torch.tensor([[float(own) if group.rank == 0 else 0.0]])
    return int(group.all_reduce(told).item())
