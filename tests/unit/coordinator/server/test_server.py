"""The port: how connections are accepted, and how it closes."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from starlette.types import Receive, Scope, Send
from tests.unit.coordinator.server.conftest import GET, TIMEOUT_S, App, echo, run, shared_by

from tandem.coordinator.config import ConnectionLimits
from tandem.coordinator.server.server import Server
from tandem.security import issue_certificate


class Listener(socket.socket):
    """Has no descriptor left for the first `failures` connections that it is to accept."""

    failures = 0
    accepts = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.accepts += 1
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return super().accept()


class Running:
    def __init__(self, server: Server, listener: Listener, events: list[str]) -> None:
        self.listener = listener
        self.events = events
        self.closing = asyncio.Event()
        self.dialled: list[asyncio.StreamWriter] = []
        self.serving = asyncio.ensure_future(server.serve(self.closing))

    async def dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.listener.getsockname())
        self.dialled.append(writer)
        return reader, writer

    async def close(self) -> None:
        self.closing.set()
        await self.serving


@asynccontextmanager
async def running(
    app: App, limits: ConnectionLimits | None = None, tls: Path | None = None
) -> AsyncIterator[Running]:
    events: list[str] = []
    with Listener() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        shared = shared_by(app, events, limits, tls)
        found = Running(Server(shared, listener, close_timeout_s=0.1), listener, events)
        async with asyncio.timeout(TIMEOUT_S):
            try:
                yield found
            finally:
                await found.close()
                for writer in found.dialled:
                    writer.close()
                    with suppress(ConnectionError):
                        await writer.wait_closed()
        assert not len(shared.census)
        assert not shared.state.tasks


def test_descriptors_that_run_out_are_waited_for_without_haste() -> None:
    async def main() -> None:
        async with running(echo) as server:
            reader, writer = await server.dial()
            writer.write(GET)
            await reader.readuntil(b"}")
            server.listener.failures = 1
            before = server.listener.accepts
            late_reader, late_writer = await server.dial()
            late_writer.write(GET)
            await late_reader.readuntil(b"}")
            assert server.listener.accepts <= before + 3
            assert server.events == ["out_of_descriptors", "stranger_shed"]
            assert await reader.read() == b""

    run(main())


def test_who_asks_nothing_is_closed_and_who_is_answered_is_not_before_the_deadline() -> None:
    cancelled = asyncio.Event()

    async def never(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async def main() -> None:
        async with running(never) as server:
            idle, _ = await server.dial()
            asking, writer = await server.dial()
            writer.write(GET)
            await asyncio.sleep(0)
            await server.close()
            assert await idle.read() == b""
            assert await asking.read() == b""

    run(main())


def test_an_answer_that_is_written_in_time_is_whole() -> None:
    go = asyncio.Event()

    async def later(scope: Scope, receive: Receive, send: Send) -> None:
        go.set()
        await asyncio.sleep(0)
        await echo(scope, receive, send)

    async def main() -> None:
        async with running(later) as server:
            reader, writer = await server.dial()
            writer.write(GET)
            await go.wait()
            await server.close()
            assert (await reader.read()).endswith(b"}")

    run(main())


def test_a_tls_handshake_has_a_deadline(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key").write_bytes(pem)
    (tmp_path / "certificate").write_text(issue_certificate(key))

    async def main() -> None:
        limits = ConnectionLimits(tls_handshake_timeout_s=0.05)
        async with running(echo, limits, tmp_path) as server:
            silent, _ = await server.dial()
            assert await silent.read() == b""
            garbage, writer = await server.dial()
            writer.write(GET)
            with suppress(ConnectionError):
                await garbage.read()
            assert server.events == ["handshake_failed"] * 2

    run(main())
