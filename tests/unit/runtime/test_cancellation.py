from __future__ import annotations

import asyncio

import pytest

from tandem.runtime import raise_if_cancelled


async def _fail() -> None:
    raise ValueError


async def _cleans_up_slowly(cleaning: asyncio.Event, may_end: asyncio.Event) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        cleaning.set()
        await may_end.wait()


def test_a_cancellation_that_meets_a_failing_group_is_not_lost() -> None:
    """The loop of a service: it starts over after failures, and must end when it is told to."""

    async def scenario() -> None:
        cleaning, may_end = asyncio.Event(), asyncio.Event()

        async def service() -> None:
            while True:
                try:
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(_cleans_up_slowly(cleaning, may_end))
                        tasks.create_task(_fail())
                except* ValueError:
                    cleaning.clear()
                raise_if_cancelled()

        task = asyncio.ensure_future(service())
        await cleaning.wait()
        task.cancel()
        await asyncio.sleep(0)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(60.0):
                await task

    asyncio.run(scenario())
