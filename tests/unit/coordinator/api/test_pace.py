"""Newcomers wait their turn, a few a round of the loop."""

from __future__ import annotations

import asyncio

from tandem.coordinator.api.pace import Pacer


def test_a_burst_is_let_in_over_several_rounds() -> None:
    admitted: list[int] = []

    async def main() -> list[int]:
        pacer, rounds = Pacer(), []

        async def newcomer(number: int) -> None:
            await pacer.wait_turn()
            admitted.append(number)

        async with asyncio.TaskGroup() as tasks:
            for number in range(20):
                tasks.create_task(newcomer(number))
            while len(admitted) < 20:
                before = len(admitted)
                await asyncio.sleep(0)  # one round
                rounds.append(len(admitted) - before)
        return rounds

    rounds = asyncio.run(main())
    assert admitted == list(range(20))
    assert max(rounds) <= 4
    assert sum(rounds) == 20
