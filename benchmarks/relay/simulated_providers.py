"""Providers that exist on the wire only: they join, prove nothing, and answer with numbers.

They speak the whole protocol, sealing and flow control included, so that what a coordinator spends
on them is what it spends on real ones. Thousands fit into one process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tandem import protocol
from tandem.errors import ProtocolError
from tandem.security import ProviderKeys, SealingKey

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
        self._keys = ProviderKeys(SealingKey())
        self._outgoing: list[protocol.ToCoordinator] = []
        self._pace = pace
        self._model = protocol.ModelInfo(protocol.ModelName(model), "llama", 1, 8192, "float32")
        self._answering: dict[protocol.RequestId, _Answering] = {}
        self._steps = 0
        self.joined = asyncio.Event()

    async def run(self) -> None:
        """Raises ProtocolError when it is refused or cut off."""
        async with connect(
            self._url + protocol.CONNECT_PATH,
            compression=None,
            ping_interval=None,
            open_timeout=_TIMEOUT_S,
        ) as socket:
            side = protocol.ProviderSide(self._keys, self._registration(), self._outgoing.append)
            side.greet(self._join_token)
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._read(socket, side, tasks)
            except* ConnectionClosed as group:
                raise ProtocolError(f"{self._name} was cut off: {group.exceptions[0]}") from group

    def _registration(self) -> bytes:
        return protocol.encode(
            protocol.Registration(
                self._name, "simulated", _HARDWARE, [self._model], self._keys.public
            )
        )

    async def _read(
        self, socket: ClientConnection, side: protocol.ProviderSide, tasks: asyncio.TaskGroup
    ) -> None:
        while True:
            await self._flush(socket)
            frame = await socket.recv(decode=False)
            event = side.receive(protocol.decode_to_provider(bytes(frame)))
            if isinstance(event, protocol.Asked):
                tasks.create_task(self._answer(socket, side, event))
            elif isinstance(event, protocol.Grant):
                answering = self._answering.get(event.request_id)
                if answering is not None:
                    answering.credit += event.chunks
                    answering.granted.set()
            elif isinstance(event, protocol.Welcome):
                side.beat(self._heartbeat())
                tasks.create_task(self._beat(socket, side, event.heartbeat_interval_s))
                await self._flush(socket)
                self.joined.set()
            elif isinstance(event, protocol.Refused | protocol.Unopened):
                raise ProtocolError(f"{self._name} was refused: {event}")

    async def _answer(
        self, socket: ClientConnection, side: protocol.ProviderSide, asked: protocol.Asked
    ) -> None:
        """The numbers from 0 on, one a token, `max_tokens` of them."""
        request, work = asked.request, asked.work
        assert isinstance(work, protocol.Generate), "nobody asks for anything else"
        answering = self._answering[request.request_id] = _Answering(request.window)
        count = work.sampling.max_tokens or 16
        first = len((work.produced or [[]])[0] or [])
        async for number in numbers(first, count, self._pace):
            while answering.credit == 0:
                answering.granted.clear()
                await answering.granted.wait()
            answering.credit -= 1
            self._steps += 1
            finish = protocol.FinishReason.LENGTH if number == count - 1 else None
            delta = protocol.Delta(0, f"{number} ", [number], None, finish)
            side.answer(asked, protocol.Chunk([delta], PROMPT_TOKENS if number == first else 0))
            await self._flush(socket)
        side.answer(asked, protocol.Finished(protocol.Usage(PROMPT_TOKENS, count, 0)))
        await self._flush(socket)
        del self._answering[request.request_id]

    async def _beat(
        self, socket: ClientConnection, side: protocol.ProviderSide, interval_s: float
    ) -> None:
        while True:
            await asyncio.sleep(interval_s)
            side.beat(self._heartbeat())
            await self._flush(socket)

    async def _flush(self, socket: ClientConnection) -> None:
        """Sends what waits, in order: a frame is in its place before the first pause."""
        while self._outgoing:
            await socket.send(protocol.encode(self._outgoing.pop(0)))

    def _heartbeat(self) -> protocol.Heartbeat:
        return protocol.Heartbeat(
            True, len(self._answering), 0, 4096, 4096, max_sequences=256, steps=self._steps
        )
