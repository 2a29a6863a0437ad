"""A coordinator, its providers and its consumers in one process, with faults drawn from a seed.

The coordinator's part is the real one: registry, admission, dispatcher, relay, provider socket,
limiter. Providers speak the real protocol, sealed as ever, over a wire that this module plays, and
generate tokens that depend on nothing but seed, choice and position. Time is virtual, so that a
schedule of several minutes takes milliseconds, and a seed always gives the same schedule.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from starlette.websockets import WebSocket
from tests.simulation.wire import Faults, Wire
from tests.support.stores import MemoryStores

from tandem import protocol
from tandem.coordinator.accounts.authentication import MachineAuthenticator
from tandem.coordinator.accounts.limits import Limiter
from tandem.coordinator.accounts.records import OPEN, Entry, KeyLimits, KeyRecord
from tandem.coordinator.api.provider_socket import ProviderSocket
from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.requests.dispatch import Dispatcher
from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.coordinator.routing.registry import Registry
from tandem.errors import TandemError
from tandem.protocol import ModelName
from tandem.runtime import raise_if_cancelled
from tandem.security import ReplyChannel, SealingKey, request_context

MODEL = ModelName("m")
TOKEN = "join"
SEALING = SealingKey()
PROMPT_TOKENS = 5
_INFO = protocol.ModelInfo(MODEL, "llama", 1, 2048, "float32")
_HARDWARE = protocol.Hardware("host", "os", "cpu", 1, 1)
#: The prompt names the request, so that a provider can be checked against what was asked.
Name = str


def expected_tokens(seed: int, choice: int, count: int) -> list[int]:
    return [(seed * 31 + choice * 7 + position * 3) % 1000 for position in range(count)]


@dataclass
class LedgerPlayed:
    """A ledger that keeps all that it is told."""

    spent: dict[int, int] = field(default_factory=dict)
    opened: list[Entry] = field(default_factory=list)
    closed: dict[str, list[Entry]] = field(default_factory=dict)

    def open(self, entry: Entry) -> None:
        self.opened.append(entry)

    def record(self, entry: Entry) -> None:
        if entry.outcome == OPEN:
            assert entry.request_id not in self.closed, "an entry changed after its end"
        else:
            self.closed.setdefault(entry.request_id, []).append(entry)

    def close(self) -> None:
        pass


class ProviderPlayed:
    """A provider that is started again whenever it ends."""

    def __init__(self, world: World, name: str, *, rank: int | None, sequences: int) -> None:
        self.world = world
        self.name = name
        self.rank = rank
        self.sequences = sequences
        self.running: dict[str, asyncio.Task[None]] = {}
        self.awake = asyncio.Event()
        self.draining = False
        self.steps = 0
        self.wire: Wire | None = None

    async def live(self) -> None:
        while True:
            self.wire = Wire(self.world.draw, self.world.faults, self.world.faulty)
            self.running, self.draining = {}, False
            self.awake.set()
            scope = {"type": "websocket", "headers": [], "path": "/"}
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
            await asyncio.sleep(0.1 + 2.0 * self.world.draw.random())

    async def _speak(self, wire: Wire, tasks: asyncio.TaskGroup) -> None:
        registration = protocol.encode(
            protocol.Registration(self.name, "sim", _HARDWARE, [_INFO], SEALING.public)
        )
        wire.up(protocol.encode(protocol.Hello([2], TOKEN, registration)))
        challenge = await self._next(wire)
        if not isinstance(challenge, protocol.Challenge):
            raise _Ended
        wire.up(protocol.encode(protocol.Proof(protocol.Evidence())))
        if not isinstance(await self._next(wire), protocol.Welcome):
            raise _Ended
        beating = tasks.create_task(self._beat(wire))
        number = 0
        try:
            while True:
                message = await self._next(wire)
                if isinstance(message, protocol.Request):
                    self.world.check_routed(self)
                    tasks.create_task(self._generate(wire, message, challenge.nonce, number))
                    number += 1
                elif isinstance(message, protocol.Cancel):
                    task = self.running.pop(message.request_id, None)
                    if task is not None:
                        task.cancel()
                elif isinstance(message, protocol.Challenge):
                    wire.up(protocol.encode(protocol.Proof(protocol.Evidence())))
        finally:
            beating.cancel()

    async def _next(self, wire: Wire) -> protocol.ToProvider:
        try:
            async with asyncio.timeout(20.0):
                frame = await wire.to_provider.get()
        except TimeoutError:
            raise _Ended from None
        if frame is None:
            raise _Ended
        return protocol.decode_to_provider(frame)

    async def _beat(self, wire: Wire) -> None:
        while True:
            self.steps += self.awake.is_set()
            beat = protocol.Heartbeat(
                not self.draining,
                len(self.running),
                0,
                200,
                200,
                max_sequences=self.sequences,
                steps=self.steps,
                cluster_role=self.rank,
            )
            wire.up(protocol.encode(beat))
            self.world.served.set()
            await asyncio.sleep(0.5)

    async def _generate(
        self, wire: Wire, request: protocol.Request, nonce: bytes, number: int
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.running[request.request_id] = task
        draw = self.world.draw
        try:
            try:
                context = request_context(nonce, number, request.request_id)
                asked = protocol.decode_generate(SEALING.open(request.sealed, context))
            except TandemError:
                wire.up(protocol.encode(protocol.Unreadable(request.request_id)))
                return
            replies = ReplyChannel(asked.reply_key, request.request_id)

            def reply(answer: protocol.AnswerPart) -> None:
                sealed = replies.seal(protocol.encode(answer))
                wire.up(protocol.encode(protocol.Reply(request.request_id, sealed)))

            if self.world.faulty() and draw.random() < self.world.faults.refuse:
                code = draw.choice(["overloaded", "link_lost", "executor_failed"])
                reply(protocol.Failed(protocol.ErrorInfo(code, "played")))
                return
            await self._produce(asked, reply)
        finally:
            self.running.pop(request.request_id, None)

    async def _produce(
        self, asked: protocol.Generate, reply: Callable[[protocol.AnswerPart], None]
    ) -> None:
        count, seed = asked.sampling.max_tokens, asked.sampling.seed
        assert count is not None
        assert seed is not None
        done = [
            count if so_far is None else len(so_far)
            for so_far in asked.produced or [[] for _ in range(asked.n)]
        ]
        produced = sum(done)
        said = PROMPT_TOKENS
        while any(position < count for position in done):
            await asyncio.sleep(0.01 + 0.05 * self.world.draw.random())
            await self.awake.wait()
            deltas = []
            for choice, position in enumerate(done):
                if position < count:
                    token = expected_tokens(seed, choice, count)[position]
                    finish = protocol.FinishReason.LENGTH if position + 1 == count else None
                    deltas.append(protocol.Delta(choice, f"{token} ", [token], None, finish))
                    done[choice] += 1
            self.steps += 1
            reply(protocol.Chunk(deltas, said))
            said = 0
        usage = protocol.Usage(PROMPT_TOKENS, sum(done), min(produced, PROMPT_TOKENS))
        reply(protocol.Finished(usage))


class _Ended(Exception):
    """This life of a provider is over."""


class World:
    def __init__(
        self, seed: int, faults: Faults, *, providers: int = 3, sequences: int = 2
    ) -> None:
        self.draw = random.Random(seed)
        self.faults = faults
        self.ledger = LedgerPlayed()
        loop = asyncio.get_running_loop()
        self.clock = loop.time
        config = CoordinatorConfig(
            host="",
            port=0,
            data_dir=Path(),
            join_token=TOKEN,
            request_timeout_s=600.0,
            patience_s=300.0,
            max_retries=200,
            hangs_after_s=5.0,
            challenge_interval_s=30.0,
            window=4,
        )
        self.registry = Registry(
            stale_after_s=config.stale_after_s,
            max_providers=50,
            clock=self.clock,
            draw=self.draw,
        )
        self.dispatcher = Dispatcher(
            config,
            self.registry,
            limiter=Limiter({}, self.clock),
            ledger=self.ledger,
            clock=self.clock,
        )
        self.socket = ProviderSocket(
            config,
            self.registry,
            self.dispatcher,
            MachineAuthenticator(MemoryStores().join_tokens(), TOKEN),
        )
        self.providers = [
            ProviderPlayed(self, f"p{number}", rank=None, sequences=sequences)
            for number in range(providers)
        ]
        self.providers.append(ProviderPlayed(self, "rank 1", rank=1, sequences=sequences))
        self.served = asyncio.Event()
        self.outcomes: Counter[str] = Counter()
        self.reserved: list[tuple[float, float, str, int]] = []

    def faulty(self) -> bool:
        return self.clock() < self.faults.until_s

    def check_routed(self, provider: ProviderPlayed) -> None:
        assert provider.rank is None, "a request was sent to a rank above 0"

    def check_counts(self) -> None:
        """Reservations are what is in flight, and no count is ever below zero."""
        for provider in self.registry.providers:
            counts = (provider.in_flight, provider.sequences, provider.tokens, provider.prefilling)
            assert min(counts) >= 0, counts
            most = provider.load.max_sequences if provider.load else 0
            assert provider.in_flight <= 1 or provider.sequences <= most

    async def run(self, consume: Callable[[World], list[asyncio.Task[None]]]) -> None:
        """Until every consumer has ended."""
        lives = [asyncio.create_task(provider.live()) for provider in self.providers]
        mischief = [asyncio.create_task(self._mischief(p)) for p in self.providers]
        consumers = consume(self)
        await asyncio.gather(*consumers)
        for task in (*mischief, *lives):
            task.cancel()
        for task in (*mischief, *lives):
            with suppress(asyncio.CancelledError):
                await task
        assert all(provider.in_flight == 0 for provider in self.registry.providers)

    async def _mischief(self, provider: ProviderPlayed) -> None:
        """Crashes, hangs and drains, each after a time of its own."""
        means = {
            "crash": self.faults.crash_every_s,
            "hang": self.faults.hang_every_s,
            "drain": self.faults.drain_every_s,
        }
        kinds = {kind: mean for kind, mean in means.items() if mean}
        while kinds and self.faulty():
            kind = self.draw.choice(sorted(kinds))
            await asyncio.sleep(self.draw.expovariate(1.0 / kinds[kind]))
            if not self.faulty() or provider.wire is None:
                return
            if kind == "crash":
                provider.wire.cut()
            elif kind == "hang":
                provider.awake.clear()
            else:
                provider.draining = True
                provider.wire.up(protocol.encode(protocol.Draining()))
                await asyncio.sleep(1.0)
                provider.wire.cut()

    async def until_served(self) -> None:
        """Returns once some provider has said that it is ready."""
        while self.registry.served_within_s(MODEL) > 1e6:
            await self.served.wait()  # it was said, and is on its way
            await asyncio.sleep(0.1)

    async def ask(
        self,
        name: Name,
        key: KeyRecord,
        *,
        tokens: int,
        n: int = 1,
        leaves_after: int | None = None,
    ) -> None:
        """One consumer: checks every token, and the bill."""
        seed = self.draw.randrange(1000)
        sampling = protocol.Sampling(max_tokens=tokens, seed=seed)
        request = InferenceRequest(MODEL, [protocol.TextPrompt(name)], n, sampling)
        got: list[list[int]] = [[] for _ in range(n)]
        asked_at = self.clock()
        async with self.dispatcher.dispatch(request, key) as run:
            batches = 0
            async for deltas in run:
                for delta in deltas:
                    got[delta.index] += delta.token_ids
                    expected = expected_tokens(seed, delta.index, tokens)
                    assert got[delta.index] == expected[: len(got[delta.index])], name
                batches += 1
                if batches == leaves_after:
                    break
                if self.draw.random() < 0.1:
                    await asyncio.sleep(self.draw.random())  # it reads slowly
        if leaves_after is None or batches < leaves_after:
            assert [len(found) for found in got] == [tokens] * n
            assert run.usage is not None
            assert run.usage.prompt_tokens == PROMPT_TOKENS
        assert run.so_far.completion_tokens == sum(map(len, got))
        assert run.reserved_at is not None
        self.reserved.append((asked_at, run.reserved_at, key.name, tokens * n))
        self.outcomes["moved"] += run.attempts > 1
        self.outcomes["done"] += 1


def key(number: int, name: str) -> KeyRecord:
    return KeyRecord(number, name, "sk", datetime.now(UTC), None, limits=KeyLimits())
