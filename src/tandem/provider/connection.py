"""The provider's WebSocket to its coordinator: hello, proofs, heartbeats, requests, reconnects.

One task each for reading, writing and heartbeats lives inside one task group a connection, so
nothing outlives it. What a lost connection had under way is cancelled on the engine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec
import structlog
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from tandem import protocol
from tandem.errors import AuthenticationFailed, ProtocolError, ServiceStopping
from tandem.provider.config import ProviderConfig
from tandem.provider.runner import RequestRunner
from tandem.runtime import Backoff, raise_if_cancelled
from tandem.security import Prover, ReplyChannel, SealingKey, request_context

log = structlog.get_logger(__name__)


class _Lost(Exception):
    """This connection has ended, for the reason that it carries; the next one may work."""


@dataclass(eq=False)
class _Session:
    """One connection after its welcome. `nonce` is the challenge's: requests are bound to it."""

    socket: ClientConnection
    welcome: protocol.Welcome
    registration: bytes
    nonce: bytes
    outgoing: asyncio.Queue[protocol.ToCoordinator]
    requests: int = 0


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
        self._prover = prover
        self._sealing_key = SealingKey()
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
                    session = await self._greet(socket)
                    backoff.reset()
                    try:
                        await self._serve(session)
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
            self._config.coordinator_url.rstrip("/") + protocol.CONNECT_PATH,
            compression=None,  # tokens are too short to gain by it
            max_size=protocol.MAX_MESSAGE_BYTES,
            open_timeout=self._config.answer_timeout_s,
            close_timeout=self._config.answer_timeout_s,
            ping_interval=self._config.answer_timeout_s,
            ping_timeout=self._config.answer_timeout_s,
        )

    async def _greet(self, socket: ClientConnection) -> _Session:
        """Hello, challenge, proof, welcome."""
        registration = protocol.encode(self._registration(self._sealing_key.public))
        versions = list(protocol.SUPPORTED_VERSIONS)
        hello = protocol.Hello(versions, self._config.join_token, registration)
        await socket.send(protocol.encode(hello))
        challenge = await self._answer(socket)
        if not isinstance(challenge, protocol.Challenge):
            raise ProtocolError(f"the coordinator answered hello with {type(challenge).__name__}")
        await socket.send(protocol.encode(self._proof(challenge, registration)))
        welcome = await self._answer(socket)
        if not isinstance(welcome, protocol.Welcome):
            raise ProtocolError(f"the coordinator answered a proof with {type(welcome).__name__}")
        log.info("joined", provider_id=welcome.provider_id, protocol=welcome.version)
        outgoing: asyncio.Queue[protocol.ToCoordinator] = asyncio.Queue(self._config.max_outgoing)
        return _Session(socket, welcome, registration, challenge.nonce, outgoing)

    async def _answer(self, socket: ClientConnection) -> protocol.ToProvider:
        async with asyncio.timeout(self._config.answer_timeout_s):
            answer = await _receive(socket)
        if isinstance(answer, protocol.Refused):
            error = answer.error.to_error()
            if isinstance(error, AuthenticationFailed | ProtocolError):
                raise error
            raise _Lost(error.message)
        return answer

    def _proof(self, challenge: protocol.Challenge, registration: bytes) -> protocol.Proof:
        if len(challenge.nonce) != protocol.NONCE_BYTES:
            raise ProtocolError(f"a challenge has {protocol.NONCE_BYTES} bytes")
        return protocol.Proof(self._prover.prove(protocol.statement(challenge.nonce, registration)))

    async def _serve(self, session: _Session) -> None:
        session.outgoing.put_nowait(self._beat_now())
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_write(session))
                tasks.create_task(self._beat(session))
                tasks.create_task(self._announce_drain(session))
                self._joined.set()
                await self._read(session, tasks)
        except* (ConnectionClosed, ProtocolError, _Lost, asyncio.QueueFull) as group:
            raise _Lost(str(group.exceptions[0]) or "the outgoing queue is full") from group
        finally:
            self._runner.cancel_all()

    async def _read(self, session: _Session, tasks: asyncio.TaskGroup) -> None:
        while True:
            message = await _receive(session.socket)
            if isinstance(message, protocol.Request):
                self._begin(message, session, tasks, time.time())
            elif isinstance(message, protocol.NextKey):
                self._sealing_key.open_ahead(message.sealed_key)
            elif isinstance(message, protocol.Grant):
                self._runner.grant(message)
            elif isinstance(message, protocol.Cancel):
                self._runner.cancel(message.request_id)
            elif isinstance(message, protocol.Challenge):
                session.outgoing.put_nowait(self._proof(message, session.registration))
            else:
                raise ProtocolError(f"unexpected {type(message).__name__} after the welcome")

    def _begin(
        self,
        request: protocol.Request,
        session: _Session,
        tasks: asyncio.TaskGroup,
        received: float,
    ) -> None:
        """Opens a request and runs it; each is taken once, in its place on this connection."""
        request_id = request.request_id
        try:
            asked = protocol.decode_work(self._open(request, session))
            replies = ReplyChannel(asked.reply_key, request_id)
        except ProtocolError as error:
            log.warning("unreadable_request", request_id=request_id, reason=error.message)
            session.outgoing.put_nowait(protocol.Unreadable(request_id))
            return

        def send(answer: protocol.AnswerPart) -> None:
            sealed = replies.seal(protocol.encode(answer))
            session.outgoing.put_nowait(protocol.Reply(request_id, sealed))

        if self._draining.is_set():
            refusal = ServiceStopping("this provider is draining")
            send(protocol.Failed(protocol.ErrorInfo.of(refusal)))
            return
        tasks.create_task(self._runner.start(request, asked, send, received))

    def _open(self, request: protocol.Request, session: _Session) -> bytes:
        """Raises ProtocolError for a request that is repeated, out of turn or altered."""
        if request.number != session.requests:
            raise ProtocolError(f"request {request.number} came, {session.requests} was due")
        session.requests += 1
        context = request_context(session.nonce, request.number, request.request_id)
        return self._sealing_key.open(request.sealed, context)

    async def _beat(self, session: _Session) -> None:
        while True:
            with suppress(TimeoutError):  # nothing has changed: the next is the regular one
                async with asyncio.timeout(session.welcome.heartbeat_interval_s):
                    await self._news.wait()
            self._news.clear()
            session.outgoing.put_nowait(self._beat_now())

    def _beat_now(self) -> protocol.Heartbeat:
        beat = self._heartbeat()
        return msgspec.structs.replace(beat, ready=beat.ready and not self._draining.is_set())

    async def _announce_drain(self, session: _Session) -> None:
        await self._draining.wait()
        session.outgoing.put_nowait(protocol.Draining())


async def _write(session: _Session) -> None:
    while True:
        await session.socket.send(protocol.encode(await session.outgoing.get()))


async def _receive(socket: ClientConnection) -> protocol.ToProvider:
    frame = await socket.recv(decode=False)
    return protocol.decode_to_provider(bytes(frame))
