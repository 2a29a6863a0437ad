"""Schedules of faults: nothing is lost, nothing is billed twice, nobody starves."""

from __future__ import annotations

import asyncio

import pytest
from tests.simulation.provider import Machine
from tests.simulation.schedules import KEYS, play, play_with_liars
from tests.simulation.virtual_time import run
from tests.simulation.wire import Faults
from tests.simulation.world import World

from tandem.coordinator.accounts.records import KeyRecord

#: `make soak` plays ten thousand.
SCHEDULES, BLOCKS = 1200, 4
LIARS = 300


@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_request_ends_well_under_every_schedule_of_faults(block: int) -> None:
    play(range(block, SCHEDULES, BLOCKS))


def test_no_request_is_lost_to_providers_that_lie_while_one_is_honest() -> None:
    """Texts, bills and counts are those of the honest one."""
    play_with_liars(range(LIARS))


def test_nobody_waits_for_more_than_a_share() -> None:
    """A key that asks for little is served in its turn, however much another asks for."""

    async def ask(world: World, name: str, who: KeyRecord) -> None:
        await world.until_served()
        await world.ask(name, who, tokens=40)

    async def main() -> None:
        world = World(0, Faults(until_s=0.0), [Machine("p0", sequences=1)])

        def crowd(world: World) -> list[asyncio.Task[None]]:
            many = [ask(world, f"a{i}", KEYS[0]) for i in range(60)]
            few = [ask(world, f"b{i}", KEYS[1]) for i in range(4)]
            return [asyncio.create_task(asked) for asked in (*many, *few)]

        await world.run(crowd)
        order = [name for _, _, name, _ in sorted(world.reserved, key=lambda entry: entry[1])]
        last = max(position for position, name in enumerate(order) if name == "b")
        # A turn is worth a handful of these requests, and few has one turn in two.
        assert last < 20

    run(main())
