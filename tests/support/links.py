"""Paired nodes, and links between them over loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from tandem.link import Channel, ControlLink, LinkCredentials, LinkListener, dial_data
from tandem.protocol.cluster import DataHello
from tandem.security import Identity, PairedNode, load_or_create_identity

SESSION = "session-1"
#: For hangs only.
TIMEOUT_S = 60.0


def identities(directory: Path, count: int) -> list[Identity]:
    return [load_or_create_identity(directory / f"node-{i}") for i in range(count)]


def paired(node: Identity) -> PairedNode:
    return PairedNode.of(node.certificate, node.key_path.parent.name)


def all_paired(directory: Path, count: int) -> list[LinkCredentials]:
    """Credentials of nodes of which each trusts all others."""
    nodes = identities(directory, count)
    return [LinkCredentials(node, [paired(other) for other in nodes]) for node in nodes]


@asynccontextmanager
async def listening(
    credentials: LinkCredentials,
    host: str = "127.0.0.1",
    on_control: Callable[[ControlLink], None] = ControlLink.close,
) -> AsyncIterator[LinkListener]:
    """A listener that accepts meanwhile."""
    listener = LinkListener(credentials, (host, 0))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(listener.run(on_control))
        try:
            yield listener
        finally:
            running.cancel()


@contextmanager
def channels(directory: Path, *, timeout_s: float = TIMEOUT_S) -> Iterator[tuple[Channel, Channel]]:
    """Both ends of one data connection: rank 0's, rank 1's."""
    zero, one = all_paired(directory, 2)
    accepted, dialled = asyncio.run(_both_ends(zero, one, timeout_s))
    try:
        yield accepted, dialled
    finally:
        accepted.close()
        dialled.close()


async def _both_ends(
    zero: LinkCredentials, one: LinkCredentials, timeout_s: float
) -> tuple[Channel, Channel]:
    async with listening(zero) as listener:
        dialled = await asyncio.to_thread(
            dial_data,
            one,
            ("127.0.0.1", listener.port),
            zero.identity.node_id,
            DataHello(SESSION, 1),
            timeout_s=timeout_s,
        )
        accepted = await listener.claim(
            SESSION, {1: one.identity.node_id}, deadline_s=TIMEOUT_S, timeout_s=timeout_s
        )
        return accepted[1], dialled


class Tap:
    """A TCP proxy that keeps what passes and may change it: the attacker on the wire."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.seen = {"to_target": bytearray(), "from_target": bytearray()}
        self.flip_at: int | None = None
        self.cut_at: int | None = None
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        for connection in (self._listener, *self._sockets):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT_S)
        for connection in (self._listener, *self._sockets):
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._target)
            self._sockets += [near, far]
            for source, sink, name in ((near, far, "to_target"), (far, near, "from_target")):
                thread = threading.Thread(target=self._pump, args=(source, sink, name), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, name: str) -> None:
        seen = self.seen[name]
        try:
            while data := bytearray(source.recv(65536)):
                start = len(seen)
                seen += data
                if name == "to_target" and self.flip_at is not None:
                    offset = self.flip_at - start
                    if 0 <= offset < len(data):
                        data[offset] ^= 1
                if name == "to_target" and self.cut_at is not None and len(seen) >= self.cut_at:
                    sink.sendall(data[: max(0, self.cut_at - start)])
                    break
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return
