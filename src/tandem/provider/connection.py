"""The provider's WebSocket to its coordinator: hello, heartbeats, requests, reconnects.

One task each for reading, writing and heartbeats lives inside one task group a connection, so
nothing outlives it. What a lost connection had under way is cancelled on the engine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tandem import protocol
from tandem.errors import AuthenticationFailed, ProtocolError, ServiceStopping
from tandem.provider.config import ProviderConfig
from tandem.provider.runner import RequestRunner
from tandem.runtime import Backoff, raise_if_cancelled

log = structlog.get_logger(__name__)

CONNECT_PATH = "/v1/providers/connect"


class _Lost(Exception):
    """This connection has ended, for the reason that it carries; the next one may work."""


class CoordinatorConnection:
    def __init__(
        self,
        config: ProviderConfig,
        hello: protocol.Hello,
        runner: RequestRunner,
        heartbeat: Callable[[], protocol.Heartbeat],
    ) -> None:
        self._config = config
        self._hello = hello
        self._runner = runner
        self._heartbeat = heartbeat
        self._draining = asyncio.Event()
        self._news = asyncio.Event()
        self._joined = asyncio.Event()

    def drain(self) -> None:
        """Tells the coordinator, now or when it is back, that nothing new is taken."""
        self._draining.set()

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
                    welcome = await self._greet(socket)
                    backoff.reset()
                    try:
                        await self._serve(socket, welcome)
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
        return connect(
            self._config.coordinator_url.rstrip("/") + CONNECT_PATH,
            compression=None,  # tokens are too short to gain by it
            max_size=protocol.MAX_MESSAGE_BYTES,
            open_timeout=self._config.answer_timeout_s,
            close_timeout=self._config.answer_timeout_s,
            ping_interval=self._config.answer_timeout_s,
            ping_timeout=self._config.answer_timeout_s,
        )

    async def _greet(self, socket: ClientConnection) -> protocol.Welcome:
        await socket.send(protocol.encode(self._hello))
        async with asyncio.timeout(self._config.answer_timeout_s):
            answer = await self._receive(socket)
        if isinstance(answer, protocol.Refused):
            error = answer.error.to_error()
            if isinstance(error, AuthenticationFailed | ProtocolError):
                raise error
            raise _Lost(error.message)
        if not isinstance(answer, protocol.Welcome):
            raise ProtocolError(f"the coordinator answered hello with {type(answer).__name__}")
        log.info("joined", provider_id=answer.provider_id, protocol=answer.version)
        return answer

    async def _serve(self, socket: ClientConnection, welcome: protocol.Welcome) -> None:
        outgoing: asyncio.Queue[protocol.ToCoordinator] = asyncio.Queue(self._config.max_outgoing)
        outgoing.put_nowait(self._beat_now())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(socket, outgoing))
                tasks.create_task(self._beat(outgoing, welcome.heartbeat_interval_s))
                tasks.create_task(self._announce_drain(outgoing))
                self._joined.set()
                await self._read(socket, outgoing, tasks)
        except* (ConnectionClosed, ProtocolError, _Lost, asyncio.QueueFull) as group:
            raise _Lost(str(group.exceptions[0]) or "the outgoing queue is full") from group
        finally:
            self._runner.cancel_all()

    async def _read(
        self,
        socket: ClientConnection,
        outgoing: asyncio.Queue[protocol.ToCoordinator],
        tasks: asyncio.TaskGroup,
    ) -> None:
        while True:
            message = await self._receive(socket)
            if isinstance(message, protocol.Generate):
                if self._draining.is_set():
                    error = protocol.ErrorInfo.of(ServiceStopping("this provider is draining"))
                    outgoing.put_nowait(protocol.Failed(message.request_id, error))
                    continue
                tasks.create_task(self._runner.start(message, outgoing.put_nowait))
            elif isinstance(message, protocol.Grant):
                self._runner.grant(message)
            elif isinstance(message, protocol.Cancel):
                self._runner.cancel(message.request_id)
            else:
                raise ProtocolError(f"unexpected {type(message).__name__} after the hello")

    async def _write(
        self, socket: ClientConnection, outgoing: asyncio.Queue[protocol.ToCoordinator]
    ) -> None:
        while True:
            await socket.send(protocol.encode(await outgoing.get()))

    async def _beat(
        self, outgoing: asyncio.Queue[protocol.ToCoordinator], interval_s: float
    ) -> None:
        while True:
            with suppress(TimeoutError):  # nothing has changed: the next is the regular one
                async with asyncio.timeout(interval_s):
                    await self._news.wait()
            self._news.clear()
            outgoing.put_nowait(self._beat_now())

    def _beat_now(self) -> protocol.Heartbeat:
        beat = self._heartbeat()
        return msgspec.structs.replace(beat, ready=beat.ready and not self._draining.is_set())

    async def _announce_drain(self, outgoing: asyncio.Queue[protocol.ToCoordinator]) -> None:
        await self._draining.wait()
        outgoing.put_nowait(protocol.Draining())

    async def _receive(self, socket: ClientConnection) -> protocol.ToProvider:
        frame = await socket.recv(decode=False)
        return protocol.decode_to_provider(bytes(frame))
