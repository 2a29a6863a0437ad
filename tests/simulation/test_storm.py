"""Two minutes of kills under twenty streams: nobody notices, and the bill is exact.

`make soak` does the same to real processes.
"""

from __future__ import annotations

import asyncio

import pytest
from tests.simulation.provider import Machine
from tests.simulation.schedules import KEYS
from tests.simulation.virtual_time import run
from tests.simulation.wire import Faults
from tests.simulation.world import World

STREAMS, KILLS, KILL_EVERY_S = 20, 40, 3.0
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
