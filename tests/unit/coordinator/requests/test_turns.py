"""A request of more choices than there are places: turns, and one answer."""

from __future__ import annotations

import asyncio

from tests.support.requests_played import asked, play

from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.requests.inference_request import Generation
from tandem.coordinator.requests.run import RequestRun
from tandem.errors import ProviderLost
from tandem.protocol import (
    Chunk,
    Delta,
    Finished,
    FinishReason,
    Generate,
    Sampling,
    TextPrompt,
    Usage,
)


def part(*choices: int, finish: FinishReason | None = FinishReason.STOP) -> Chunk:
    return Chunk([Delta(index, "", [index], finish=finish) for index in choices], 5)


def test_more_choices_than_there_are_places_take_turns_and_are_one_answer() -> None:
    """A place is two sequences here. What is not in its turn looks finished to the provider."""

    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        got: list[int] = []

        async def reading() -> None:
            async for deltas in run:
                got.extend(delta.index for delta in deltas)

        task = asyncio.ensure_future(reading())
        for turn in ({0, 1}, {2, 3}, {4}):
            played, work = await asked(providers)
            assert isinstance(work, Generate)
            assert work.produced == [[] if index in turn else None for index in range(5)]
            assert work.n == 5
            assert sum(provider.sequences for provider in providers) == len(turn)
            played.answer(part(*turn), Finished(Usage(5, len(turn), 0)))
        await task
        assert got == [0, 1, 2, 3, 4]
        assert run.usage == Usage(5, 5, 0), "the prompt counts once"
        assert run.progress.attempts == 1, "a turn is no move"

    play(scenario, providers=1, task=Generation([TextPrompt("hi")], 5, Sampling(max_tokens=8)))


def test_a_turn_whose_provider_is_lost_goes_on_with_what_it_had_begun() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        first, _ = await asked(providers)
        first.answer(part(0), part(1, finish=None))
        await taking
        while run.so_far.completion_tokens < 2:
            await anext(run)
        taking = asyncio.ensure_future(anext(run))
        first.link.lose(ProviderLost("it died"))
        second, work = await asked([p for p in providers if p.link is not first.link])
        assert isinstance(work, Generate)
        assert work.produced == [None, [1], []]
        second.answer(part(1, 2), Finished(Usage(5, 2, 0)))
        await taking
        assert run.progress.attempts == 2

    play(scenario, task=Generation([TextPrompt("hi")], 3, Sampling(max_tokens=8)))
