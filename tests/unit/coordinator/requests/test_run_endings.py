"""How long a request goes on: by its time, by its limit, until providers die of it."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.requests_played import (
    CONFIG,
    NOT_NOW,
    asked,
    dies,
    failed,
    faults,
    play,
    tokens,
)

from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.requests.run import RequestRun
from tandem.errors import (
    RequestGivenUp,
    RequestTimedOut,
)
from tandem.protocol import (
    Chunk,
    Delta,
    FinishReason,
    Usage,
)


def test_a_request_goes_on_however_often_it_fails() -> None:
    """What counts is its time alone."""

    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        began = asyncio.get_running_loop().time()
        taking = asyncio.ensure_future(anext(run))
        for number in range(60):
            played, _ = await asked(providers)
            played.answer(failed(NOT_NOW[number % len(NOT_NOW)]))
        played, _ = await asked(providers)
        played.answer(tokens(1, finish=FinishReason.STOP))
        await taking
        assert run.progress.attempts == 61
        assert asyncio.get_running_loop().time() - began > 60.0

    play(scenario)


HOUR_S = 3600.0


def test_a_request_that_two_providers_die_of_is_given_up_while_others_live() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        await asyncio.sleep(HOUR_S)
        began = asyncio.get_running_loop().time()
        taking = asyncio.ensure_future(anext(run))
        for _ in range(2):
            played, _ = await asked(providers)
            await asyncio.sleep(1.5)
            dies(next(p for p in providers if p.link is played.link))
        with pytest.raises(RequestGivenUp) as given_up:
            await taking
        assert not given_up.value.retryable
        assert run.progress.attempts == 2
        assert len(set(run.progress.given_up_by)) == 2
        assert CONFIG.control_s < asyncio.get_running_loop().time() - began < 60.0

    play(scenario, providers=3)


def test_a_request_goes_on_when_those_it_met_had_just_come_up() -> None:
    """Machines that come and go by themselves are no evidence."""

    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        await asyncio.sleep(20.0)
        taking = asyncio.ensure_future(anext(run))
        for _ in range(2):
            played, _ = await asked(providers)
            await asyncio.sleep(1.5)
            dies(next(p for p in providers if p.link is played.link))
        played, _ = await asked(providers)
        played.answer(tokens(1))
        await taking
        assert run.progress.attempts == 3

    play(scenario, providers=3)


def test_a_request_goes_on_when_providers_die_without_it_too() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        await asyncio.sleep(HOUR_S)
        taking = asyncio.ensure_future(anext(run))
        for _ in range(2):
            played, _ = await asked(providers)
            await asyncio.sleep(1.5)
            dies(next(p for p in providers if p.link is played.link))
        await asyncio.sleep(1.5)
        idle = next(p for p in providers if not p.holds)
        dies(idle)
        played, _ = await asked(providers)
        played.answer(tokens(1))
        await taking
        assert run.progress.attempts == 3

    play(scenario, providers=4)


def test_a_token_clears_a_request_of_what_came_before() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        for token in range(1, 5):
            taking = asyncio.ensure_future(anext(run))
            first, _ = await asked(providers)
            await asyncio.sleep(1.5)
            first.answer(failed("executor_failed"))
            second, _ = await asked(providers)
            second.answer(tokens(token))
            await taking
            second.answer(failed("executor_failed"))
        assert run.progress.attempts == 8

    play(scenario)


def test_who_finishes_and_does_not_say_so_holds_nobody_up() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        played, _ = await asked(providers)
        played.answer(tokens(1, finish=FinishReason.STOP))
        await taking
        with pytest.raises(StopAsyncIteration):
            await anext(run)
        assert run.usage == Usage(5, 1, 0)
        assert faults(providers) == 1

    play(scenario)


def test_at_its_limit_an_answer_ends_as_it_is() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        played, _ = await asked(providers)
        assert played.request is not None
        assert 60.0 < played.request.deadline_s < 90.0, "the coordinator ends it first"
        played.answer(tokens(1, 2))
        assert await taking
        assert await anext(run) == [Delta(0, "", [], finish=FinishReason.LENGTH)]
        with pytest.raises(StopAsyncIteration):
            await anext(run)
        assert run.usage == Usage(5, 2, 0)
        assert asyncio.get_running_loop().time() == pytest.approx(60.0)

    play(scenario, request_limit_s=60.0)


def test_a_limit_without_a_token_is_an_error() -> None:
    async def scenario(run: RequestRun, _: list[Provider]) -> None:
        with pytest.raises(RequestTimedOut, match="60 s"):
            await anext(run)

    play(scenario, request_limit_s=60.0)


def test_a_provider_knows_of_no_limit_where_there_is_none() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        played, _ = await asked(providers)
        assert played.request is not None
        assert 1e6 < played.request.deadline_s < 1e9
        taking.cancel()

    play(scenario)


def test_what_shows_that_a_prompt_is_computed_is_handed_on() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        played, _ = await asked(providers)
        for prefilled in range(1, 5):
            await asyncio.sleep(50.0)
            played.answer(Chunk([], 5, prefilled))
            assert await taking == []
            assert run.moved_at == asyncio.get_running_loop().time()
            taking = asyncio.ensure_future(anext(run))
        assert run.progress.first_at is None
        assert sum(provider.beginning for provider in providers) == 1
        taking.cancel()

    play(scenario)
