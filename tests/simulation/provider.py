"""A provider that exists on the wire only: it speaks the real protocol, sealed as ever.

It generates tokens that depend on nothing but seed, choice and position, and is started again
whenever it ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from starlette.websockets import WebSocket
from tests.simulation.liars import lie
from tests.simulation.wire import Wire

from tandem import protocol
from tandem.errors import TandemError
from tandem.protocol import ModelName
from tandem.runtime import raise_if_cancelled
from tandem.security import ProviderKeys, SealingKey

if TYPE_CHECKING:
    from tests.simulation.world import World

TOKEN = "join"
MODEL = ModelName("m")
SEALING = SealingKey()
_HARDWARE = protocol.Hardware("host", "os", "cpu", 1, 1)
_BLOCK_TOKENS = 16
#: A prompt that begins so ends the provider that begins it.
DEADLY = "deadly"
_HANGS_S = 20.0


class Machine(msgspec.Struct, frozen=True):
    """What a provider is: so many sequences at once, in a cache of so many tokens."""

    name: str
    model: ModelName = MODEL
    rank: int | None = None
    sequences: int = 2
    tokens: int = 3200
    #: How often it answers a request with a lie.
    lies: float = 0.0


def expected_tokens(seed: int, choice: int, count: int) -> list[int]:
    return [(seed * 31 + choice * 7 + position * 3) % 1000 for position in range(count)]


def prompt_tokens(text: str) -> int:
    return 1 + len(text) // 4


def _registration(machine: Machine) -> bytes:
    info = protocol.ModelInfo(machine.model, "llama", 1, machine.tokens, "float32")
    return protocol.encode(
        protocol.Registration(machine.name, "sim", _HARDWARE, [info], SEALING.public)
    )


class ProviderPlayed:
    def __init__(self, world: World, machine: Machine) -> None:
        self.world = world
        self.machine = machine
        self.running: dict[str, asyncio.Task[None]] = {}
        #: Chunks that each request may still send.
        self.credits: dict[str, asyncio.Semaphore] = {}
        self.awake = asyncio.Event()
        self.steps = 0
        self.wire: Wire | None = None
        self.side: protocol.ProviderSide | None = None

    async def live(self) -> None:
        while True:
            self.wire = Wire(self.world.draw, self.world.faults, self.world.faulty)
            self.running, self.credits = {}, {}
            self.awake.set()
            scope = {
                "type": "websocket",
                "headers": [],
                "path": "/",
                "client": ("127.0.0.1", 1),
            }
            self.wire.to_coordinator.put_nowait({"type": "websocket.connect"})
            served = asyncio.create_task(
                self.world.socket.serve(WebSocket(scope, self.wire.receive, self.wire.send))
            )
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._speak(self.wire, tasks)
            except* (_Ended, TandemError):
                pass
            finally:
                self.wire.cut()
                await served
            raise_if_cancelled()
            restart_s = self.world.faults.restart_s
            await asyncio.sleep(restart_s or 0.1 + 2.0 * self.world.draw.random())

    def kill(self) -> None:
        """Ends this life without a word."""
        if self.wire is not None:
            self.wire.cut()

    def hang(self) -> None:
        """Computes nothing any more, until somebody sees it and starts it again."""
        self.awake.clear()
        life = self.wire
        if life is not None:
            asyncio.get_running_loop().call_later(_HANGS_S, life.cut)

    def drain(self) -> None:
        """Takes nothing new in this life."""
        if self.side is not None:
            self.side.drain()

    async def _speak(self, wire: Wire, tasks: asyncio.TaskGroup) -> None:
        side = self.side = protocol.ProviderSide(
            ProviderKeys(SEALING),
            _registration(self.machine),
            lambda message: wire.up(protocol.encode(message)),
        )
        side.greet(TOKEN)
        beating: list[asyncio.Task[None]] = []
        try:
            while True:
                event = side.receive(await self._next(wire))
                if isinstance(event, protocol.Welcome):
                    beating.append(tasks.create_task(self._beat(side, event.heartbeat_interval_s)))
                elif isinstance(event, protocol.Refused):
                    raise _Ended
                else:
                    self._act(side, event, tasks)
        finally:
            for task in beating:
                task.cancel()

    def _act(
        self,
        side: protocol.ProviderSide,
        event: protocol.ProviderEvent | None,
        tasks: asyncio.TaskGroup,
    ) -> None:
        if isinstance(event, protocol.Asked):
            assert self.machine.rank in {None, 0}, "a request was sent to a rank above 0"
            self.world.outcomes["misrouted"] += event.request.model != self.machine.model
            tasks.create_task(self._generate(side, event))
        elif isinstance(event, protocol.Cancel):
            task = self.running.pop(event.request_id, None)
            if task is not None:
                task.cancel()
        elif isinstance(event, protocol.Grant):
            for _ in range(event.chunks if event.request_id in self.credits else 0):
                self.credits[event.request_id].release()

    async def _next(self, wire: Wire) -> protocol.ToProvider:
        """The next message that is no mere hint: all machines share one key here."""
        while True:
            try:
                async with asyncio.timeout(self.world.faults.silence_s):
                    frame = await wire.to_provider.get()
            except TimeoutError:
                raise _Ended from None
            if frame is None:
                raise _Ended
            message = protocol.decode_to_provider(frame)
            if not isinstance(message, protocol.NextKey):
                return message

    async def _beat(self, side: protocol.ProviderSide, interval_s: float) -> None:
        blocks = self.machine.tokens // _BLOCK_TOKENS
        while True:
            self.steps += self.awake.is_set()
            side.beat(
                protocol.Heartbeat(
                    True,
                    len(self.running),
                    0,
                    blocks,
                    blocks,
                    max_sequences=self.machine.sequences,
                    steps=self.steps,
                    cluster_role=protocol.cluster_role(self.machine.rank),
                )
            )
            self.world.served.set()
            await asyncio.sleep(interval_s)

    async def _generate(self, side: protocol.ProviderSide, asked: protocol.Asked) -> None:
        task = asyncio.current_task()
        assert task is not None
        request_id, draw = asked.request.request_id, self.world.draw
        self.running[request_id] = task
        credit = self.credits[request_id] = asyncio.Semaphore(asked.request.window)
        received = time.time()
        assert isinstance(asked.work, protocol.Generate)
        (prompt,) = asked.work.prompts
        assert isinstance(prompt, protocol.TextPrompt)
        try:
            if draw.random() < self.machine.lies:
                self.world.outcomes["lies"] += 1
                assert self.wire is not None
                await lie(draw, partial(side.answer, asked), self.wire.up)
                return
            if prompt.text.startswith(DEADLY):
                self.world.outcomes["killed by a request"] += 1
                await asyncio.sleep(0.05)
                self.kill()
                return
            if self.world.faulty() and draw.random() < self.world.faults.refuse:
                code = draw.choice(["overloaded", "link_lost", "executor_failed"])
                side.answer(asked, protocol.Failed(protocol.ErrorInfo(code, "played")))
                return
            await self._produce(asked.work, received, credit, partial(side.answer, asked))
        finally:
            self.running.pop(request_id, None)
            self.credits.pop(request_id, None)

    async def _produce(
        self,
        asked: protocol.Generate,
        received: float,
        credit: asyncio.Semaphore,
        reply: Callable[[protocol.AnswerPart], None],
    ) -> None:
        count, seed = asked.sampling.max_tokens, asked.sampling.seed
        submitted, first, last = time.time(), 0.0, 0.0
        assert count is not None
        assert seed is not None
        done = [
            count if so_far is None else len(so_far)
            for so_far in asked.produced or [[] for _ in range(asked.n)]
        ]
        # A choice that has finished, or that waits for a turn of its own, is nobody's concern here.
        others = sum(count for so_far in asked.produced if so_far is None)
        produced = sum(done) - others
        (prompt,) = asked.prompts
        assert isinstance(prompt, protocol.TextPrompt)
        prompted = said = prompt_tokens(prompt.text)
        while any(position < count for position in done):
            await asyncio.sleep(0.01 + 0.05 * self.world.draw.random())
            await self.awake.wait()
            await credit.acquire()
            deltas = []
            for choice, position in enumerate(done):
                if position < count:
                    token = expected_tokens(seed, choice, count)[position]
                    finish = protocol.FinishReason.LENGTH if position + 1 == count else None
                    deltas.append(protocol.Delta(choice, f"{token} ", [token], None, finish))
                    done[choice] += 1
            self.steps += 1
            last = time.time()
            first = first or last
            reply(protocol.Chunk(deltas, said))
            said = 0
        usage = protocol.Usage(prompted, sum(done) - others, min(produced, prompted))
        reply(protocol.Finished(usage, protocol.Timings(received, submitted, first, last)))


class _Ended(Exception):
    """This life of a provider is over."""
