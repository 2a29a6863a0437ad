"""What sealing costs by itself: the link's TLS in memory, without sockets and waiting."""

from __future__ import annotations

import ssl
import statistics
import tempfile
import time
from pathlib import Path

from tandem.link import LinkCredentials
from tandem.security import Identity, PairedNode, load_or_create_identity

_FRAMES, _BATCHES = 50, 5
_MAX_HANDSHAKE_TURNS = 20


def identity(folder: Path, rank: int) -> Identity:
    return load_or_create_identity(folder / f"rank-{rank}")


def credentials(folder: Path, rank: int) -> LinkCredentials:
    """Of one of two ranks that are paired; made on first use."""
    nodes = [PairedNode.of(identity(folder, n).certificate, f"rank-{n}") for n in range(2)]
    return LinkCredentials(identity(folder, rank), nodes)


def seal_s(frame_bytes: int) -> float:
    """Median seconds to seal a frame, or to open one: half of what both take."""
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        sender, receiver = _connected(Path(folder))
    payload = bytes(frame_bytes)
    taken = []
    for _ in range(_BATCHES):
        began = time.perf_counter()
        for _ in range(_FRAMES):
            sender.write(payload)
            left = frame_bytes
            while left:
                left -= len(receiver.read(left))
        taken.append((time.perf_counter() - began) / _FRAMES / 2)
    return statistics.median(taken)


def _connected(folder: Path) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    one_way, other_way = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = credentials(folder, 0).data_context.wrap_bio(other_way, one_way)
    server = credentials(folder, 1).server_context.wrap_bio(one_way, other_way, server_side=True)
    for _ in range(_MAX_HANDSHAKE_TURNS):
        if all([_shake(client), _shake(server)]):
            return client, server
    raise AssertionError("TLS in memory did not come about")


def _shake(side: ssl.SSLObject) -> bool:
    """One turn of a handshake; whether it is done."""
    try:
        side.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
