"""Thousands of providers at one coordinator: nothing is lost, and each costs what one costs.

Costs are lines of Python that ran, which no other program on the machine changes. `make soak` has
as many on real connections, and bounds their memory.
"""

from __future__ import annotations

import asyncio

import pytest
from tests.simulation.provider import MODEL, Machine
from tests.simulation.schedules import KEYS
from tests.simulation.steps import lines
from tests.simulation.virtual_time import run
from tests.simulation.wire import Faults
from tests.simulation.world import World
from tests.support.registered import beat, join, make_registry

from tandem.coordinator.routing.admission import Admission
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.registry import Registry
from tandem.coordinator.routing.reservation import Reservation

PROVIDERS, STREAMS, REQUESTS, TOKENS = 2000, 500, 1000, 16
#: Virtual seconds: by then all have joined and said that they are ready.
JOINED_S = 5.0


def test_no_chunk_is_lost_or_repeated_and_every_request_is_answered() -> None:
    async def main() -> World:
        machines = [Machine(f"p{n}", sequences=256, tokens=65_536) for n in range(PROVIDERS)]
        world = World(3, Faults(until_s=0.0), machines)
        places = asyncio.Semaphore(STREAMS)

        async def one(number: int) -> None:
            await asyncio.sleep(JOINED_S)
            assert len(world.registry.providers) == PROVIDERS
            async with places:
                await world.ask(f"request {number}", KEYS[number % len(KEYS)], tokens=TOKENS)

        await world.run(lambda _: [asyncio.create_task(one(n)) for n in range(REQUESTS)])
        return world

    world = run(main())
    assert world.outcomes["done"] == len(world.ledger.closed) == REQUESTS
    assert (world.outcomes["moved"], world.outcomes["misrouted"]) == (0, 0)
    assert sum(usage.completion_tokens for usage in world.given) == REQUESTS * TOKENS
    assert {row.attempts for (row,) in world.ledger.closed.values()} == {1}


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "requests wait"])
def test_a_heartbeat_costs_the_same_among_thousands(busy: bool) -> None:
    async def cost(providers: int) -> int:
        registry = _registry(providers, full=busy)
        admission = Admission(registry, max_waiting=64, patience_s=60.0)
        waiting = [
            asyncio.create_task(admission.reserve(Demand(MODEL), "key")) for _ in range(8 * busy)
        ]
        await asyncio.sleep(0)
        one = registry.providers[0]
        steps = lines(lambda: registry.heartbeat(one, one.heartbeat or beat()))
        for task in waiting:
            task.cancel()
        return steps

    assert run(cost(2000)) == run(cost(40))


def test_a_reservation_costs_the_same_among_thousands() -> None:
    def cost(providers: int) -> int:
        registry = _registry(providers)
        registry.reserve(Demand(MODEL))
        return lines(lambda: registry.reserve(Demand(MODEL)))

    assert cost(2000) < 2 * cost(40)


def _registry(providers: int, *, full: bool = False) -> Registry:
    """Of providers that are ready, and each of which has all that it can take if they are full."""
    registry = make_registry(max_providers=providers)
    for _ in range(providers):
        registry.heartbeat(join(registry, [MODEL]), beat())
    if full:
        for provider in registry.providers:
            while isinstance(registry.reserve_at(provider, Demand(MODEL)), Reservation):
                pass
    return registry
