"""Two minutes of kills under twenty streams: nobody notices, and the bill is exact.

`make soak` does the same to real processes.
"""

from __future__ import annotations

import asyncio

import pytest
from tests.simulation.provider import DEADLY, Machine
from tests.simulation.schedules import KEYS
from tests.simulation.virtual_time import run
from tests.simulation.wire import Faults
from tests.simulation.world import World

from tandem.errors import RequestGivenUp

STREAMS, KILLS, KILL_EVERY_S = 20, 40, 3.0
HOUR_S = 3600.0
MACHINES = [Machine(f"p{number}", sequences=8) for number in range(3)]


@pytest.mark.parametrize("at_once", [1, len(MACHINES)], ids=["one at a time", "all at once"])
def test_nobody_notices_a_storm_of_kills(at_once: int) -> None:
    """C9: the world checks each token of each answer against that of an undisturbed one."""

    async def storm(world: World) -> None:
        for _ in range(KILLS // at_once):
            await asyncio.sleep(KILL_EVERY_S * at_once)
            for victim in world.draw.sample(world.providers, at_once):
                victim.kill()

    async def main() -> World:
        world = World(1, Faults(), MACHINES)
        killing = asyncio.create_task(storm(world))

        async def again_and_again(number: int) -> None:
            await world.until_served()
            while not killing.done():
                key = KEYS[number % len(KEYS)]
                await world.ask(f"stream {number}", key, tokens=60 + 7 * (number % 9))

        await world.run(lambda _: [asyncio.create_task(again_and_again(n)) for n in range(STREAMS)])
        await killing
        return world

    world = run(main())
    rows = [row for (row,) in world.ledger.closed.values()]
    assert len(rows) == len(world.ledger.opened) == len(world.given) > 3 * STREAMS
    assert {row.outcome for row in rows} == {"completed"}
    assert sum(row.prompt_tokens for row in rows) == sum(u.prompt_tokens for u in world.given)
    assert sum(row.completion_tokens for row in rows) == sum(
        usage.completion_tokens for usage in world.given
    )
    assert sum(row.attempts > 1 for row in rows) > KILLS


@pytest.mark.parametrize("providers", [1, 3])
def test_nothing_fails_when_all_are_killed_every_second_and_take_ten_to_come_back(
    providers: int,
) -> None:
    """Two minutes of it, with the limits of time that the service has.

    A provider lives for less than a second then, so whatever is begun there is a suspect again and
    again; nothing of it is given up.
    """

    async def storm(world: World) -> None:
        for _ in range(120):
            await asyncio.sleep(1.0)
            up = {provider.name for provider in world.registry.providers if provider.is_ready}
            for provider in world.providers:
                if provider.machine.name in up:
                    provider.kill()

    async def main() -> World:
        machines = [Machine(f"p{number}", sequences=32) for number in range(providers)]
        world = World(1, Faults(restart_s=10.0), machines, request_timeout_s=120.0, patience_s=20.0)
        killing = asyncio.create_task(storm(world))

        async def again_and_again(number: int) -> None:
            await world.until_served()
            while not killing.done():
                key = KEYS[number % len(KEYS)]
                await world.ask(f"stream {number}", key, tokens=20 + number)

        await world.run(lambda _: [asyncio.create_task(again_and_again(n)) for n in range(STREAMS)])
        await killing
        return world

    world = run(main())
    rows = [row for (row,) in world.ledger.closed.values()]
    assert len(rows) == len(world.ledger.opened) == len(world.given) >= STREAMS
    assert {row.outcome for row in rows} == {"completed"}
    assert max(row.attempts for row in rows) > 5


@pytest.mark.parametrize("providers", [1, 2, 3])
def test_a_request_of_death_takes_two_providers_and_no_other_request(providers: int) -> None:
    """When they have been up for a while: what has just come up may be ill."""

    async def main() -> World:
        machines = [Machine(f"p{number}", sequences=8) for number in range(providers)]
        faults = Faults(restart_s=10.0, until_s=0.0, silence_s=60.0)
        world = World(1, faults, machines, request_timeout_s=120.0, patience_s=20.0)

        async def innocent(number: int) -> None:
            await world.until_served()
            await asyncio.sleep(HOUR_S + 0.1 * number)
            for _ in range(3):
                await world.ask(f"stream {number}", KEYS[number % 2], tokens=100)

        async def deadly() -> None:
            await world.until_served()
            await asyncio.sleep(HOUR_S + 2.0)
            with pytest.raises(RequestGivenUp):
                await world.ask(DEADLY, KEYS[2], tokens=5)

        asking = [innocent(n) for n in range(10)]
        await world.run(lambda _: [asyncio.create_task(c) for c in (*asking, deadly())])
        return world

    world = run(main())
    assert world.outcomes["killed by a request"] == 2
    outcomes = [row.outcome for (row,) in world.ledger.closed.values()]
    assert sorted(outcomes) == ["completed"] * 30 + ["request_given_up"]
