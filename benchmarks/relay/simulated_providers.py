"""Providers that exist on the wire only: they join, prove nothing, and answer with numbers.

They speak the whole protocol, sealing and flow control included, so that what a coordinator spends
on them is what it spends on real ones. Thousands fit into one process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tandem import protocol
from tandem.errors import ProtocolError
from tandem.security import ReplyChannel, SealingKey, request_context

MODEL = protocol.ModelName("simulated")
PROMPT_TOKENS = 7
_TIMEOUT_S = 120.0
_HARDWARE = protocol.Hardware("simulated", "simulated", "none", 1, 1)


class Pace(msgspec.Struct, frozen=True):
    """One token every so often; None: as fast as the window lets them go."""

    token_s: float | None = None


async def numbers(first: int, end: int, pace: Pace) -> AsyncIterator[int]:
    """From `first` up to `end`; a late one does not delay those after it.

    The first comes at once: timers are too coarse to tell what a gateway adds to it.
    """
    due = time.monotonic()
    for number in range(first, end):
        if pace.token_s is not None and number > first:
            due += pace.token_s
            await asyncio.sleep(due - time.monotonic())
        yield number


@dataclass(eq=False)
class _Answering:
    credit: int
    granted: asyncio.Event = field(default_factory=asyncio.Event)


class SimulatedProvider:
    """One connection. `run` lasts until it is cancelled; it raises when the coordinator ends it."""

    def __init__(
        self,
        url: str,
        join_token: str,
        name: str,
        pace: Pace,
        *,
        model: str = MODEL,
    ) -> None:
        self._url = url
        self._join_token = join_token
        self._name = name
        self._sealing = SealingKey()
        self._pace = pace
        self._model = protocol.ModelInfo(protocol.ModelName(model), "llama", 1, 8192, "float32")
        self._answering: dict[protocol.RequestId, _Answering] = {}
        self._steps = 0
        self._nonce = b""
        self.joined = asyncio.Event()

    async def run(self) -> None:
        """Raises ProtocolError when it is refused or cut off."""
        async with connect(
            self._url + protocol.CONNECT_PATH,
            compression=None,
            ping_interval=None,
            open_timeout=_TIMEOUT_S,
        ) as socket:
            welcome = await self._greet(socket)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._beat(socket, welcome.heartbeat_interval_s))
                    await self._read(socket, tasks)
            except* ConnectionClosed as group:
                raise ProtocolError(f"{self._name} was cut off: {group.exceptions[0]}") from group

    async def _greet(self, socket: ClientConnection) -> protocol.Welcome:
        registration = protocol.Registration(
            self._name, "simulated", _HARDWARE, [self._model], self._sealing.public
        )
        versions = list(protocol.SUPPORTED_VERSIONS)
        hello = protocol.Hello(versions, self._join_token, protocol.encode(registration))
        await socket.send(protocol.encode(hello))
        challenge = await _receive(socket)
        if not isinstance(challenge, protocol.Challenge):
            raise ProtocolError(f"{self._name} was refused: {challenge}")
        self._nonce = challenge.nonce
        await socket.send(protocol.encode(protocol.Proof(protocol.Evidence())))
        welcome = await _receive(socket)
        if not isinstance(welcome, protocol.Welcome):
            raise ProtocolError(f"{self._name} was refused: {welcome}")
        await socket.send(protocol.encode(self._heartbeat()))
        self.joined.set()
        return welcome

    async def _read(self, socket: ClientConnection, tasks: asyncio.TaskGroup) -> None:
        number = 0
        while True:
            message = await _receive(socket)
            if isinstance(message, protocol.Request):
                context = request_context(self._nonce, number, message.request_id)
                number += 1
                asked = protocol.decode_work(self._sealing.open(message.sealed, context))
                assert isinstance(asked, protocol.Generate), "nobody asks for anything else"
                tasks.create_task(self._answer(socket, message, asked))
            elif isinstance(message, protocol.NextKey):
                self._sealing.open_ahead(message.sealed_key)
            elif isinstance(message, protocol.Grant):
                answering = self._answering.get(message.request_id)
                if answering is not None:
                    answering.credit += message.chunks
                    answering.granted.set()
            elif isinstance(message, protocol.Challenge):
                await socket.send(protocol.encode(protocol.Proof(protocol.Evidence())))

    async def _answer(
        self, socket: ClientConnection, request: protocol.Request, asked: protocol.Generate
    ) -> None:
        """The numbers from 0 on, one a token, `max_tokens` of them."""
        answering = self._answering[request.request_id] = _Answering(request.window)
        replies = ReplyChannel(asked.reply_key, request.request_id)
        send = _sender(socket, request.request_id, replies)
        count = asked.sampling.max_tokens or 16
        first = len((asked.produced or [[]])[0] or [])
        async for number in numbers(first, count, self._pace):
            while answering.credit == 0:
                answering.granted.clear()
                await answering.granted.wait()
            answering.credit -= 1
            self._steps += 1
            finish = protocol.FinishReason.LENGTH if number == count - 1 else None
            delta = protocol.Delta(0, f"{number} ", [number], None, finish)
            await send(protocol.Chunk([delta], PROMPT_TOKENS if number == first else 0))
        await send(protocol.Finished(protocol.Usage(PROMPT_TOKENS, count, 0)))
        del self._answering[request.request_id]

    async def _beat(self, socket: ClientConnection, interval_s: float) -> None:
        while True:
            await asyncio.sleep(interval_s)
            await socket.send(protocol.encode(self._heartbeat()))

    def _heartbeat(self) -> protocol.Heartbeat:
        return protocol.Heartbeat(
            True, len(self._answering), 0, 4096, 4096, max_sequences=256, steps=self._steps
        )


def _sender(
    socket: ClientConnection, request_id: protocol.RequestId, replies: ReplyChannel
) -> Callable[[protocol.AnswerPart], Awaitable[None]]:
    async def send(answer: protocol.AnswerPart) -> None:
        sealed = replies.seal(protocol.encode(answer))
        await socket.send(protocol.encode(protocol.Reply(request_id, sealed)))

    return send


async def _receive(socket: ClientConnection) -> protocol.ToProvider:
    return protocol.decode_to_provider(bytes(await socket.recv(decode=False)))
