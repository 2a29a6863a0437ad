"""The provider's WebSocket to its coordinator: heartbeats, requests, reconnects.

What is said on it, `protocol.ProviderSide` knows; here are the socket, the tasks and the times. One
task each for reading, writing and heartbeats lives inside one task group a connection, so nothing
outlives it. What a lost connection had under way is cancelled on the engine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from ssl import SSLContext
from urllib.parse import urlsplit

import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tandem import protocol
from tandem.errors import AuthenticationFailed, ProtocolError, ServiceStopping
from tandem.provider.config import ProviderConfig
from tandem.provider.runner import RequestRunner
from tandem.runtime import Backoff, is_own_network, raise_if_cancelled
from tandem.security import PinnedContext, Prover, ProviderKeys, SealingKey

log = structlog.get_logger(__name__)


class _Lost(Exception):
    """This connection has ended, for the reason that it carries; the next one may work."""


class _Outgoing:
    """What waits to be sent. One message too many ends the connection, not whoever sends it."""

    def __init__(self, bound: int) -> None:
        self._queue: asyncio.Queue[protocol.ToCoordinator] = asyncio.Queue(bound)
        self._overflown = asyncio.Event()

    def put(self, message: protocol.ToCoordinator) -> None:
        try:
            self._queue.put_nowait(message)
        except asyncio.QueueFull:
            self._overflown.set()

    async def send_all(self, socket: ClientConnection) -> None:
        """Sends what waits now."""
        while not self._queue.empty():
            await socket.send(protocol.encode(self._queue.get_nowait()))

    async def write(self, socket: ClientConnection) -> None:
        """Sends what comes, until cancelled."""
        while True:
            await socket.send(protocol.encode(await self._queue.get()))

    async def watch(self) -> None:
        """Raises _Lost once the coordinator reads nothing any more."""
        await self._overflown.wait()
        raise _Lost("the outgoing queue is full")


@dataclass(eq=False)
class _Session:
    """One connection: its socket, its end of the conversation, and what waits to be sent."""

    socket: ClientConnection
    side: protocol.ProviderSide
    outgoing: _Outgoing


def _verification(url: str, pin: str | None) -> SSLContext | bool | None:
    """How the coordinator's certificate is checked: by its pin, by authorities, not at all."""
    if pin is not None:
        return PinnedContext(pin)
    return True if url.startswith("wss:") else None


class CoordinatorConnection:
    def __init__(
        self,
        config: ProviderConfig,
        registration: Callable[[bytes], protocol.Registration],
        prover: Prover,
        runner: RequestRunner,
        heartbeat: Callable[[], protocol.Heartbeat],
    ) -> None:
        """`registration` gets the public key that requests are to be sealed to."""
        self._config = config
        self._registration = registration
        self._keys = ProviderKeys(SealingKey(), prover)
        self._runner = runner
        self._heartbeat = heartbeat
        self._draining = False
        self._side: protocol.ProviderSide | None = None
        self._news = asyncio.Event()
        self._joined = asyncio.Event()

    def drain(self) -> None:
        """Tells the coordinator, now or when it is back, that nothing new is taken."""
        self._draining = True
        if self._side is not None:
            self._side.drain()

    def notify(self) -> None:
        """Sends a heartbeat now: readiness or role has changed."""
        self._news.set()

    async def wait_joined(self) -> None:
        """Returns once a coordinator has welcomed this provider for the first time."""
        await self._joined.wait()

    async def run(self) -> None:
        """Stays connected until cancelled.

        Raises AuthenticationFailed or ProtocolError when the coordinator refuses for good.
        """
        backoff = Backoff()
        while True:
            try:
                async with self._connect() as socket:
                    session = self._session(socket)
                    interval_s = await self._greet(session)
                    backoff.reset()
                    try:
                        await self._serve(session, interval_s)
                    except asyncio.CancelledError:
                        await socket.close()  # in order: nothing went wrong
                        raise
            except (OSError, TimeoutError, WebSocketException, _Lost, ServiceStopping) as error:
                log.warning("coordinator_lost", reason=str(error) or type(error).__name__)
            raise_if_cancelled()
            delay_s = backoff.next_delay_s()
            log.info("reconnecting", delay_s=round(delay_s, 2))
            await asyncio.sleep(delay_s)

    def _connect(self) -> connect:
        url, pin = self._config.coordinator_url, self._config.coordinator_pin
        own = is_own_network(urlsplit(url).hostname or "")
        return connect(
            url.rstrip("/") + protocol.CONNECT_PATH,
            ssl=_verification(url, pin),
            # A proxy of the environment is for the world outside.
            proxy=None if own else True,
            compression=None,  # tokens are too short to gain by it
            max_size=protocol.MAX_MESSAGE_BYTES,
            open_timeout=self._config.answer_timeout_s,
            close_timeout=self._config.answer_timeout_s,
            ping_interval=self._config.answer_timeout_s,
            ping_timeout=self._config.answer_timeout_s,
        )

    def _session(self, socket: ClientConnection) -> _Session:
        outgoing = _Outgoing(self._config.max_outgoing)
        registration = protocol.encode(self._registration(self._keys.public))
        self._side = protocol.ProviderSide(
            self._keys, registration, outgoing.put, draining=self._draining
        )
        return _Session(socket, self._side, outgoing)

    async def _greet(self, session: _Session) -> float:
        """Up to the welcome: how often to send heartbeats, in seconds."""
        session.side.greet(self._config.join_token)
        while True:
            await session.outgoing.send_all(session.socket)
            async with asyncio.timeout(self._config.answer_timeout_s):
                event = session.side.receive(await _receive(session.socket))
            if isinstance(event, protocol.Welcome):
                log.info("joined", provider_id=event.provider_id, protocol=event.version)
                return event.heartbeat_interval_s
            if isinstance(event, protocol.Refused):
                error = event.error.to_error()
                if isinstance(error, AuthenticationFailed | ProtocolError):
                    raise error
                raise _Lost(error.message)

    async def _serve(self, session: _Session, interval_s: float) -> None:
        session.side.beat(self._heartbeat())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(session.outgoing.write(session.socket))
                tasks.create_task(session.outgoing.watch())
                tasks.create_task(self._beat(session, interval_s))
                self._joined.set()
                await self._read(session, tasks)
        except* (ConnectionClosed, ProtocolError, _Lost) as group:
            raise _Lost(str(group.exceptions[0])) from group
        finally:
            self._side = None
            self._runner.cancel_all()

    async def _read(self, session: _Session, tasks: asyncio.TaskGroup) -> None:
        side, runner = session.side, self._runner
        while True:
            message = await _receive(session.socket)
            received = time.time()
            event = side.receive(message)
            if isinstance(event, protocol.Asked):
                send = partial(side.answer, event)
                tasks.create_task(runner.start(event.request, event.work, send, received))
            elif isinstance(event, protocol.Grant):
                runner.grant(event)
            elif isinstance(event, protocol.Cancel):
                runner.cancel(event.request_id)
            elif isinstance(event, protocol.Unopened):
                log.warning("unreadable_request", request_id=event.request_id, reason=event.reason)

    async def _beat(self, session: _Session, interval_s: float) -> None:
        while True:
            with suppress(TimeoutError):  # nothing has changed: the next is the regular one
                async with asyncio.timeout(interval_s):
                    await self._news.wait()
            self._news.clear()
            session.side.beat(self._heartbeat())


async def _receive(socket: ClientConnection) -> protocol.ToProvider:
    frame = await socket.recv(decode=False)
    return protocol.decode_to_provider(bytes(frame))
