"""Providers are killed at random under real streams: nobody notices, and the bill is exact."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.running_providers import Answer, Fleet, running_fleet, stream

from tandem.coordinator import entries

STREAMS, PROVIDERS = 20, 3
KILL_EVERY_S, STORM_S = 3.0, 120.0


async def storm(fleet: Fleet, draw: random.Random) -> int:
    """Kills for as long as the storm lasts; how often."""
    kills = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(STORM_S):
            while True:
                await asyncio.sleep(KILL_EVERY_S)
                if fleet.alive:
                    victim = draw.choice(sorted(fleet.alive))
                    os.kill(fleet.alive[victim].pid, signal.SIGKILL)
                    kills += 1
    return kills


@pytest.mark.slow
@pytest.mark.timeout(400)
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
            assert await killing > 20
        return given

    given = asyncio.run(main())
    rows = entries(tmp_path, limit=100_000)
    assert len(rows) == len(given) > 3 * STREAMS
    assert {row.outcome for row in rows} == {"completed"}
    assert sum(row.prompt_tokens for row in rows) == sum(a.prompt_tokens for a in given)
    assert sum(row.completion_tokens for row in rows) == sum(a.completion_tokens for a in given)
    assert sum(row.attempts > 1 for row in rows) > 10
