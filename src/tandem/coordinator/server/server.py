"""The coordinator's port: accepts connections, keeps the clock of what they may take, and closes.

We accept ourselves rather than leave it to the event loop, so that a connection counts from its
first moment (in its TLS handshake too), and so that running out of descriptors costs no spinning.
"""

from __future__ import annotations

import asyncio
import socket
from email.utils import formatdate

from tandem.coordinator.server.http import HttpConnection
from tandem.coordinator.server.peer import Peer
from tandem.coordinator.server.shared import Shared

#: How long nobody is accepted after descriptors ran out.
_PAUSE_S = 0.1
_TICK_S = 1.0
#: For answers whose connection was cut, and then for their tasks, which were cancelled.
_ABORT_TIMEOUT_S, _CANCEL_TIMEOUT_S = 0.25, 0.25


class Server:
    def __init__(self, shared: Shared, listener: socket.socket, *, close_timeout_s: float) -> None:
        """`listener` listens, does not block, and is closed by the caller."""
        self._shared = shared
        self._census = shared.census
        self._listener = listener
        self._close_timeout_s = close_timeout_s
        self._accepting = False

    async def serve(self, until: asyncio.Event) -> None:
        """Accepts until the event; then what is open has `close_timeout_s` to end."""
        self._loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as self._tasks:
            clock = self._tasks.create_task(self._tick())
            self._accepting = True
            self._resume()
            try:
                await until.wait()
            finally:
                self._accepting = False
                self._loop.remove_reader(self._listener)
            await self._close()
            clock.cancel()

    async def _tick(self) -> None:
        limit_s = self._shared.limits.flush_timeout_s
        while True:
            self._shared.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            self._census.abort_stuck(self._loop.time(), limit_s)
            await asyncio.sleep(_TICK_S)

    def _resume(self) -> None:
        if self._accepting:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(self._census.capacity.accepted_a_turn):
            try:
                connection, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._out_of_descriptors()
                return
            self._admit(connection, str(address[0]))

    def _out_of_descriptors(self) -> None:
        self._shared.events.happened("out_of_descriptors")
        self._census.make_room()
        self._loop.remove_reader(self._listener)
        self._loop.call_later(_PAUSE_S, self._resume)

    def _admit(self, connection: socket.socket, address: str) -> None:
        if self._census.full:
            self._census.make_room()
        if self._census.full:
            self._shared.events.happened("connection_refused")
            connection.close()
            return
        connection.setblocking(False)
        peer = self._census.arrive(address)
        self._tasks.create_task(self._connect(connection, peer))

    async def _connect(self, connection: socket.socket, peer: Peer) -> None:
        if peer.aborted:  # it had to go before its turn came
            connection.close()
            return
        task = asyncio.current_task()
        assert task is not None
        peer.on_abort = task.cancel
        certificate, limits = self._shared.certificate, self._shared.limits
        context = None if certificate is None else certificate.context
        try:
            await self._loop.connect_accepted_socket(
                lambda: HttpConnection(self._shared, peer),
                connection,
                ssl=context,
                ssl_handshake_timeout=limits.tls_handshake_timeout_s if context else None,
                ssl_shutdown_timeout=limits.flush_timeout_s if context else None,
            )
        except OSError:  # it left, or its TLS handshake failed or took too long
            self._shared.events.happened("handshake_failed")
            self._census.leave(peer)
            connection.close()
        except asyncio.CancelledError:
            self._census.leave(peer)
            connection.close()
            raise
        finally:
            peer.on_abort = None

    async def _close(self) -> None:
        """Idle connections at once, answers when they are written, what is left at the deadline."""
        for connection in tuple(self._shared.state.connections):
            connection.shutdown()
        await self._all_ended(self._close_timeout_s)
        self._census.abort_all()  # which tells the application that its consumers have gone
        if not await self._all_ended(_ABORT_TIMEOUT_S):
            for task in self._shared.state.tasks:
                task.cancel()
            await self._all_ended(_CANCEL_TIMEOUT_S)

    async def _all_ended(self, timeout_s: float) -> bool:
        """Waits for the answers and connections that there are; whether that was in time."""
        try:
            async with asyncio.timeout(timeout_s):
                await _ended(self._shared.state.tasks)
                await self._census.empty()
        except TimeoutError:
            return False
        return True


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    while tasks:
        await asyncio.wait(tuple(tasks))
