"""A coordinator, its providers and its consumers in one process, with faults drawn from a seed.

The coordinator's part is the real one: registry, admission, dispatcher, relay, provider socket,
limiter. Providers and the wires to them are played. Time is virtual, so that a schedule of several
minutes takes milliseconds, and a seed always gives the same schedule.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.simulation.provider import (
    MODEL,
    TOKEN,
    Machine,
    ProviderPlayed,
    expected_tokens,
    prompt_tokens,
)
from tests.simulation.wire import Faults
from tests.support.stores import MemoryStores

from tandem import protocol
from tandem.coordinator import CoordinatorConfig
from tandem.coordinator.accounts.limits import Limiter
from tandem.coordinator.accounts.machines import MachineAuthenticator
from tandem.coordinator.accounts.records import OPEN, Entry, KeyLimits, KeyRecord, LedgerHealth
from tandem.coordinator.api.provider_socket import ProviderSocket
from tandem.coordinator.requests.dispatch import Dispatcher
from tandem.coordinator.requests.inference_request import Generation, InferenceRequest
from tandem.coordinator.requests.run import RequestRun
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.registry import Registry
from tandem.protocol import ModelName

#: The prompt names the request, so that a provider can be checked against what was asked.
Name = str


@dataclass
class LedgerPlayed:
    """A ledger that keeps all that it is told."""

    spent: dict[int, int] = field(default_factory=dict)
    opened: list[Entry] = field(default_factory=list)
    closed: dict[str, list[Entry]] = field(default_factory=dict)
    health: LedgerHealth = field(default_factory=LedgerHealth)

    def open(self, entry: Entry) -> None:
        self.opened.append(entry)

    def record(self, entry: Entry) -> None:
        if entry.outcome == OPEN:
            assert entry.request_id not in self.closed, "an entry changed after its end"
        else:
            self.closed.setdefault(entry.request_id, []).append(entry)

    def close(self) -> None:
        pass


#: The last one belongs to a cluster whose rank 0 is elsewhere.
MACHINES = (*(Machine(f"p{number}") for number in range(3)), Machine("rank 1", rank=1))


class World:
    def __init__(
        self,
        seed: int,
        faults: Faults,
        machines: Sequence[Machine] = MACHINES,
        *,
        request_timeout_s: float = 600.0,
        patience_s: float = 300.0,
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
            request_timeout_s=request_timeout_s,
            patience_s=patience_s,
            hangs_after_s=5.0,
            challenge_interval_s=30.0,
            window=4,
        )
        self.registry = Registry(
            stale_after_s=config.stale_after_s,
            max_providers=len(machines),
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
            MachineAuthenticator(MemoryStores().nodes(), TOKEN),
        )
        self.providers = [ProviderPlayed(self, machine) for machine in machines]
        self.served = asyncio.Event()
        self.outcomes: Counter[str] = Counter()
        #: What consumers were told that they used.
        self.given: list[protocol.Usage] = []
        self.reserved: list[tuple[float, float, str, int]] = []

    def faulty(self) -> bool:
        return self.clock() < self.faults.until_s

    def check_counts(self) -> None:
        """Reservations are what is in flight, and no count is ever below zero."""
        for provider in self.registry.providers:
            counts = (provider.in_flight, provider.sequences, provider.tokens, provider.prefilling)
            assert min(counts) >= 0, counts
            most = provider.heartbeat.max_sequences if provider.heartbeat else 0
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
                provider.kill()
            elif kind == "hang":
                provider.hang()
            else:
                provider.drain()
                await asyncio.sleep(1.0)
                provider.kill()

    async def until_served(self, model: ModelName = MODEL) -> None:
        """Returns once some provider has said that it is ready."""
        while self.registry.served_within_s(Demand(model)) > 1e6:
            await self.served.wait()  # it was said, and is on its way
            await asyncio.sleep(0.1)

    async def ask(
        self,
        name: Name,
        key: KeyRecord,
        *,
        tokens: int,
        model: ModelName = MODEL,
        n: int = 1,
        leaves_after: int | None = None,
        reads_slowly: bool = True,
    ) -> RequestRun:
        """One consumer: checks every token, and the bill."""
        seed = self.draw.randrange(1000)
        sampling = protocol.Sampling(max_tokens=tokens, seed=seed)
        request = InferenceRequest(model, Generation([protocol.TextPrompt(name)], n, sampling))
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
                if reads_slowly and self.draw.random() < 0.1:
                    await asyncio.sleep(self.draw.random())
        if leaves_after is None or batches < leaves_after:
            assert [len(found) for found in got] == [tokens] * n
            assert run.usage is not None
            assert run.usage.prompt_tokens == prompt_tokens(name)
        self.given.append(run.so_far)
        assert run.so_far.completion_tokens == sum(map(len, got))
        assert run.progress.reserved_at is not None
        self.reserved.append((asked_at, run.progress.reserved_at, key.name, tokens * n))
        self.outcomes["moved"] += run.progress.attempts > 1
        self.outcomes["done"] += 1
        return run


def key(number: int, name: str) -> KeyRecord:
    return KeyRecord(number, name, "sk", datetime.now(UTC), None, limits=KeyLimits())
