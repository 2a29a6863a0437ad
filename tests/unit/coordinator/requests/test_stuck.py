"""A request that does not get on is ended, and one that moves is not, however long it takes."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
from tests.simulation import virtual_time
from tests.support.registered import beat
from tests.support.requests_played import asked, failed, play, tokens

from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.requests.run import RequestRun
from tandem.coordinator.requests.stuck import ends_when_stuck
from tandem.errors import InvalidRequest, RequestTimedOut
from tandem.protocol import Chunk, Usage


def clock() -> float:
    return asyncio.get_running_loop().time()


def test_a_stream_that_moves_is_never_cut() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        async with ends_when_stuck(run, 120.0, clock):
            taking = asyncio.ensure_future(anext(run))
            played, _ = await asked(providers)
            for number in range(8):
                await asyncio.sleep(119.0)
                played.answer(Chunk([], 5, number + 1) if number < 4 else tokens(number))
                await taking
                taking = asyncio.ensure_future(anext(run))
            taking.cancel()
        assert clock() > 900.0

    play(scenario, providers=1)


@pytest.mark.parametrize("had_token", [False, True])
def test_whoever_takes_a_request_and_does_nothing_loses_it(had_token: bool) -> None:
    """It neither answers nor says that it works: two of them do not cost the request its life."""

    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        async with ends_when_stuck(run, 120.0, clock):
            taking = asyncio.ensure_future(anext(run))
            for number in range(2):
                idle, _ = await asked(providers)
                if had_token:
                    idle.answer(tokens(number))
                    await taking
                    taking = asyncio.ensure_future(anext(run))
            played, _ = await asked(providers)
            played.answer(tokens(7))
            await taking
        assert run.progress.attempts == 3
        assert clock() < 120.0

    play(scenario, providers=3)


def test_whoever_says_that_it_works_has_two_thirds_of_the_time() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        async with ends_when_stuck(run, 120.0, clock):
            taking = asyncio.ensure_future(anext(run))
            busy, _ = await asked(providers)
            await asyncio.sleep(79.0)
            assert not busy.cancelled
            played, _ = await asked([p for p in providers if p.link is not busy.link])
            assert 80.0 <= clock() < 100.0
            played.answer(tokens(1))
            await taking

    play(scenario, heartbeat=beat(running=1))


@pytest.mark.parametrize("had_token", [False, True])
def test_one_that_stands_still_is_ended_and_worth_repeating_if_it_had_nothing(
    had_token: bool,
) -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        async def under_way() -> None:
            async with ends_when_stuck(run, 120.0, clock):
                taking = asyncio.ensure_future(anext(run))
                played, _ = await asked(providers)
                if had_token:
                    await asyncio.sleep(100.0)
                    played.answer(tokens(1))
                    await taking
                    taking = asyncio.ensure_future(anext(run))
                await taking

        with pytest.raises(RequestTimedOut, match="120 s") as ended:
            await under_way()
        assert ended.value.retryable is not had_token
        assert clock() == pytest.approx(220.0 if had_token else 120.0, abs=2.0)

    play(scenario, providers=1)


def test_whoever_takes_nothing_stands_still() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        async def answer() -> None:
            played, _ = await asked(providers)
            played.answer(tokens(1), tokens(2))

        async def under_way() -> None:
            async with ends_when_stuck(run, 120.0, clock), asyncio.TaskGroup() as tasks:
                tasks.create_task(answer())
                await anext(run)
                await asyncio.sleep(1e6)

        with pytest.raises(RequestTimedOut):
            await under_way()
        assert clock() < 130.0

    play(scenario)


def test_moving_from_provider_to_provider_is_not_getting_on() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        async def refuse() -> None:
            while True:
                played, _ = await asked(providers)
                await asyncio.sleep(1.0)
                played.answer(failed("overloaded"))

        refusing = asyncio.create_task(refuse())
        with pytest.raises(RequestTimedOut):
            async with ends_when_stuck(run, 120.0, clock):
                await anext(run)
        refusing.cancel()
        assert clock() == pytest.approx(120.0, abs=2.0)

    play(scenario)


def test_what_was_refused_and_found_no_second_opinion_in_time_is_refused() -> None:
    """Whoever asked for what cannot be is told so, however busy the other machines are."""

    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        async def under_way() -> None:
            async with ends_when_stuck(run, 120.0, clock):
                taking = asyncio.ensure_future(anext(run))
                played, _ = await asked(providers)
                played.answer(failed("invalid_request"))
                await asked([p for p in providers if p.link is not played.link])
                await taking

        with pytest.raises(InvalidRequest):
            await under_way()

    play(scenario)


@pytest.mark.parametrize("started_at", [43.27670679050534, 22.876222127045263])
def test_a_timer_comes_to_its_time_whatever_sums_are_rounded_to(started_at: float) -> None:
    """A timer for what is too little to add would never let the clock get on."""
    looks = 0

    class Still:
        moved_at = 0.0
        so_far = Usage(0, 0, 0)
        refusal = None

        def leave_if_still(self, for_s: float) -> None:
            nonlocal looks
            looks += for_s == 40.0

    async def main() -> None:
        await asyncio.sleep(started_at)
        run = Still()
        run.moved_at = clock()
        with pytest.raises(RequestTimedOut):
            async with ends_when_stuck(cast("RequestRun", run), 120.0, clock):
                await asyncio.Event().wait()

    virtual_time.run(main())
    assert 8 <= looks <= 20
