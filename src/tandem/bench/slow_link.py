"""A port that passes on what comes, later: two processes of one machine as if they were apart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PIECE_BYTES = 1 << 16


@contextmanager
def delayed_port(host: str, port: int, delay_s: float) -> Iterator[int]:
    """A port of this machine; each byte takes `delay_s` from there to `host` and back.

    It has a thread of its own. The delay takes nothing from how much passes.
    """
    loop = asyncio.new_event_loop()
    relay = _Relay(host, port, delay_s)
    thread = threading.Thread(target=loop.run_forever, name="delayed-port")
    thread.start()
    try:
        yield asyncio.run_coroutine_threadsafe(relay.listen(), loop).result()
    finally:
        asyncio.run_coroutine_threadsafe(relay.close(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


class _Relay:
    def __init__(self, host: str, port: int, delay_s: float) -> None:
        self._target = host, port
        self._delay_s = delay_s
        self._passing: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._server: asyncio.Server | None = None

    async def listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._passing:
            task.cancel()
        await asyncio.gather(*self._passing, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # what was aborted is closed in the loop's next turn

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        self._writers += [writer, there_writer]
        for source, target in ((reader, there_writer), (there_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, target))
            self._passing.add(task)
            task.add_done_callback(self._passing.discard)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        """Pieces keep their order: they are all as late."""
        loop = asyncio.get_running_loop()
        with suppress(OSError):
            while piece := await source.read(_PIECE_BYTES):
                loop.call_later(self._delay_s, target.write, piece)
        loop.call_later(self._delay_s, target.close)
