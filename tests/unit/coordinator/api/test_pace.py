"""Newcomers wait their turn, a few a round of the loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tandem.coordinator.api import pace
from tandem.coordinator.api.pace import Pacer
from tandem.errors import Overloaded


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


def test_long_work_is_done_beside_the_loop_one_at_a_time() -> None:
    started, release, running = threading.Event(), threading.Event(), 0

    def work(number: int) -> int:
        nonlocal running
        running += 1
        assert running == 1
        started.set()
        assert release.wait(60)
        running -= 1
        return number

    async def main() -> list[int]:
        pacer = Pacer()
        done = asyncio.gather(*(pacer.aside("k", work, number) for number in range(3)))
        assert await asyncio.to_thread(started.wait, 60)  # the loop goes on
        release.set()
        return await done

    assert asyncio.run(main()) == [0, 1, 2]


def test_consumers_take_turns_aside() -> None:
    """Whoever has a hundred large requests holds up another's one by one of them."""
    order: list[str] = []

    async def main() -> None:
        pacer = Pacer()
        many = [pacer.aside("many", order.append, "many") for _ in range(20)]
        one = pacer.aside("one", order.append, "one")
        await asyncio.gather(*many, one)

    asyncio.run(main())
    assert order.index("one") <= 2


def test_a_turn_aside_that_does_not_come_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_PATIENCE_S", 0.0)
    held, release = threading.Event(), threading.Event()

    def hold() -> bool:
        held.set()
        return release.wait(60.0)

    async def main() -> None:
        pacer = Pacer()
        async with asyncio.TaskGroup() as tasks:
            pending = tasks.create_task(pacer.aside("one", hold))
            assert await asyncio.to_thread(held.wait, 60.0)
            for consumer in ("one", "other"):
                with pytest.raises(Overloaded):
                    await pacer.aside(consumer, int)
            release.set()
            assert await pending

    asyncio.run(main())
