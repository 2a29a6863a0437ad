"""An HTTP connection of the server, over real sockets, to an application that a test brings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvicorn
import uvloop
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from tandem.coordinator.api import closing_response
from tandem.coordinator.config import ConnectionLimits
from tandem.coordinator.server.capacity import Capacity
from tandem.coordinator.server.census import Census
from tandem.coordinator.server.certificate import Certificate
from tandem.coordinator.server.events import Events
from tandem.coordinator.server.http import HttpConnection
from tandem.coordinator.server.shared import Shared

App = Callable[[Scope, Receive, Send], Awaitable[None]]
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
#: For what must come about by itself, and for what a test is too slow to reach.
SOON = ConnectionLimits(header_timeout_s=0.05, rest_timeout_s=0.05, linger_s=0.05)
TIMEOUT_S = 60


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    shared: Shared
    events: list[str]

    async def answer(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """One answer, which has a length or ends with the connection."""
        self.writer.write(request)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ") for line in lines)}
        size = headers.get("content-length")
        body = await (self.reader.read() if size is None else self.reader.readexactly(int(size)))
        return int(status.split(" ")[1]), headers, body

    async def code(self, request: bytes) -> tuple[int, str]:
        """Status and code of a refusal, after which the connection ends."""
        status, headers, body = await self.answer(request)
        assert headers["connection"] == "close"
        assert headers["content-type"] == "application/json"
        assert await self.reader.read() == b""
        return status, msgspec.json.decode(body)["error"]["code"]


def shared_by(
    app: App, events: list[str], limits: ConnectionLimits | None = None, tls: Path | None = None
) -> Shared:
    """What a server's connections have in common; `events` gets what happens to them.

    `tls` is a folder with `certificate` and `key`.
    """
    loaded = uvicorn.Config(
        app,
        lifespan="off",
        log_config=None,
        ws="websockets-sansio",
    )
    loaded.load()
    return Shared(
        loaded,
        ServerState(),
        limits or ConnectionLimits(),
        Census(Capacity.of_descriptors(1024, 10), events.append),
        Events(events.append),
        closing_response,
        None if tls is None else Certificate(tls / "certificate", tls / "key"),
    )


@asynccontextmanager
async def served(app: App, limits: ConnectionLimits | None = None) -> AsyncIterator[Client]:
    """A connection to `app`; afterwards nothing of it may be left."""
    events: list[str] = []
    shared = shared_by(app, events, limits)
    loop = asyncio.get_running_loop()

    def connection() -> HttpConnection:
        return HttpConnection(shared, shared.census.arrive("127.0.0.1"))

    listener = await loop.create_server(connection, "127.0.0.1", 0)
    async with listener, asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        try:
            yield Client(reader, writer, shared, events)
        finally:
            writer.transport.abort()
            await shared.census.empty()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it was asked, as JSON of a known length."""
    body = b""
    while True:
        event = await receive()
        body += event.get("body", b"")
        if not event.get("more_body"):
            break
    names = [name.decode() for name, _ in scope["headers"]]
    seen = {"path": scope["path"], "body": body.decode("latin-1"), "headers": names}
    answer = msgspec.json.encode(seen)
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def pieces(scope: Scope, receive: Receive, send: Send) -> None:
    """Three pieces of no known length."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for piece in (b"one ", b"two ", b"three"):
        await send({"type": "http.response.body", "body": piece, "more_body": piece != b"three"})


def post(body: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    lines = [b"POST /here HTTP/" + version, b"host: x", b"content-length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def run(main: Awaitable[None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(TIMEOUT_S):
            await main

    uvloop.run(bounded())  # as in `runtime.run_service`
