"""An HTTP connection, over real sockets: what the application may do to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import Receive, Scope, Send

from tandem.coordinator.server.http import WRITE_BUFFER_BYTES, HttpConnection
from tandem.coordinator.server.peer import peer_of

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@asynccontextmanager
async def served(
    app: Callable[[Scope, Receive, Send], Awaitable[None]],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to `app`."""
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    config.load()
    state = uvicorn.server.ServerState()
    loop = asyncio.get_running_loop()
    listener = await loop.create_server(lambda: HttpConnection(config, state, {}), "127.0.0.1", 0)
    async with listener:
        reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
        try:
            yield reader, writer
        finally:
            writer.transport.abort()


def test_a_reader_who_reads_nothing_is_cut_off_and_nothing_is_kept_for_it() -> None:
    waiting: list[int] = []
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        piece = {"type": "http.response.body", "body": b"x" * WRITE_BUFFER_BYTES, "more_body": True}
        peer = peer_of(scope)
        while not waiting:
            writing = asyncio.ensure_future(send(piece))
            await asyncio.sleep(0)
            if not writing.done():
                waiting.append(peer.unsent_bytes)
                peer.abort()
            await writing
        await send({"type": "http.response.body"})
        ended.set()

    async def main() -> None:
        async with served(app) as (_, writer):
            writer.write(GET)
            await ended.wait()

    asyncio.run(asyncio.wait_for(main(), 60))
    assert 0 < waiting[0] <= 3 * WRITE_BUFFER_BYTES


def test_without_a_server_of_ours_nothing_is_done_to_the_connection() -> None:
    peer_of({"type": "http"}).abort()
