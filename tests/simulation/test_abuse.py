"""One key does its worst: the others lose nothing, and hardly wait."""

from __future__ import annotations

import asyncio

from tests.simulation.abuse import ABUSER, HONEST, play
from tests.simulation.provider import Machine
from tests.simulation.virtual_time import run
from tests.simulation.wire import Faults
from tests.simulation.world import World

#: `make soak` plays ten thousand.
SCHEDULES = 90


def test_whatever_one_key_does_the_others_lose_nothing_and_budgets_hold() -> None:
    play(range(SCHEDULES))


def test_a_key_that_fills_all_places_keeps_nobody_waiting() -> None:
    """Two requests of 128 long answers: another's short ones find a place at once, each time."""

    async def main() -> None:
        world = World(1, Faults(until_s=0.0), [Machine("p0", sequences=32, tokens=200_000)])

        async def victim() -> None:
            await world.until_served()
            await world.ask("first of all", HONEST[0], tokens=1)
            await asyncio.sleep(3.0)
            for number in range(20):
                await world.ask(f"short {number}", HONEST[0], tokens=2)

        async def attacker(number: int) -> None:
            await world.until_served()
            await asyncio.sleep(2.0)
            await world.ask(f"{number}", ABUSER, tokens=400, n=128, leaves_after=60)

        tasks = [victim(), attacker(0), attacker(1)]
        await world.run(lambda _: [asyncio.create_task(task) for task in tasks])
        waits = [until - since for since, until, name, _ in world.reserved if name == "a"]
        assert len(waits) == 21
        assert max(waits) == 0.0

    run(main())


def test_while_others_wait_a_large_request_takes_small_turns() -> None:
    """A place that is free goes to whoever has had least, not to all choices of one request."""

    async def main() -> None:
        world = World(2, Faults(until_s=0.0), [Machine("p0", sequences=4, tokens=200_000)])

        async def ask(name: str, after_s: float, *, n: int) -> None:
            await world.until_served()
            await asyncio.sleep(after_s)
            await world.ask(name, ABUSER if n > 1 else HONEST[0], tokens=20, n=n)

        many = [ask(f"many {number}", 0.0, n=64) for number in range(2)]
        few = [ask(f"few {number}", 1.0, n=1) for number in range(8)]
        await world.run(lambda _: [asyncio.create_task(task) for task in (*many, *few)])
        ends = [name for _, _, name, _ in world.reserved]
        assert ends == ["a"] * 8 + ["abuser"] * 2, "the short ones end first"
        assert {row.outcome for (row,) in world.ledger.closed.values()} == {"completed"}

    run(main())
