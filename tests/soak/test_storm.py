"""Providers are killed at random under real streams: nobody notices, and the bill is exact."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from pathlib import Path

import pytest
from tests.support.running_providers import Answer, Fleet, running_fleet, stream
from tests.support.stores import ledger_entries

STREAMS, PROVIDERS = 20, 3
KILLS, KILL_EVERY_S = 40, 3.0


async def storm(fleet: Fleet, draw: random.Random) -> None:
    """One kill after the other; the slower the machine, the longer until there is one to kill."""
    kills = 0
    while kills < KILLS:
        await asyncio.sleep(KILL_EVERY_S)
        if fleet.alive:
            victim = draw.choice(sorted(fleet.alive))
            os.kill(fleet.alive[victim].pid, signal.SIGKILL)
            kills += 1


@pytest.mark.timeout(1800)
def test_nobody_notices_a_storm_of_kills(tmp_path: Path) -> None:
    """C9, with a provider killed every three seconds for two minutes under twenty streams."""

    async def main() -> list[Answer]:
        given: list[Answer] = []
        async with running_fleet(tmp_path, PROVIDERS) as fleet, fleet.client() as client:
            calm = await asyncio.gather(*(stream(client, n) for n in range(STREAMS)))
            given += calm
            killing = asyncio.create_task(storm(fleet, random.Random(1)))

            async def again_and_again(number: int) -> None:
                while not killing.done():
                    answer = await stream(client, number)
                    given.append(answer)
                    assert answer == calm[number]

            async with asyncio.TaskGroup() as tasks:
                for number in range(STREAMS):
                    tasks.create_task(again_and_again(number))
            await killing
        return given

    given = asyncio.run(main())
    rows = ledger_entries(tmp_path, limit=100_000)
    assert len(rows) == len(given) > 3 * STREAMS
    assert {row.outcome for row in rows} == {"completed"}
    assert sum(row.prompt_tokens for row in rows) == sum(a.prompt_tokens for a in given)
    assert sum(row.completion_tokens for row in rows) == sum(a.completion_tokens for a in given)
    assert sum(row.attempts > 1 for row in rows) > 10, "the kills must hit"


ROUNDS = 120


@pytest.mark.timeout(1800)
def test_nothing_fails_when_all_are_killed_every_second(tmp_path: Path) -> None:
    """Two minutes of it: whoever is up is killed, and takes some ten seconds to come back."""

    async def everybody(fleet: Fleet) -> int:
        kills = 0
        for _ in range(ROUNDS):
            await asyncio.sleep(1.0)
            for process in tuple(fleet.alive.values()):
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
        return kills

    async def main() -> tuple[list[Answer], int]:
        async with running_fleet(tmp_path, PROVIDERS) as fleet, fleet.client() as client:
            calm = await asyncio.gather(*(stream(client, n) for n in range(STREAMS)))
            killing = asyncio.create_task(everybody(fleet))
            given = await asyncio.gather(*(stream(client, n) for n in range(STREAMS)))
            assert given == calm
            return [*calm, *given], await killing

    given, kills = asyncio.run(main())
    rows = ledger_entries(tmp_path, limit=100_000)
    assert len(rows) == len(given)
    assert {row.outcome for row in rows} == {"completed"}
    assert kills >= PROVIDERS
