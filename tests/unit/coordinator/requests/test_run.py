"""A request on its way over several providers, without a socket."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.requests_played import (
    asked,
    dies,
    failed,
    faults,
    play,
    tokens,
)

from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.requests.inference_request import (
    Embedding,
)
from tandem.coordinator.requests.run import RequestRun
from tandem.errors import (
    ContextLengthExceeded,
    ModelNotFound,
    ProviderLost,
    TandemError,
    UnsupportedParameter,
)
from tandem.protocol import (
    Embed,
    ErrorInfo,
    Failed,
    Finished,
    FinishReason,
    Generate,
    TextPrompt,
    Usage,
)


def test_another_provider_goes_on_from_the_very_token_with_the_same_draws() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        first, whole = await asked(providers)
        assert isinstance(whole, Generate)
        first.answer(tokens(1, 2))
        assert [piece.token_ids for piece in await taking] == [[1, 2]]
        taking = asyncio.ensure_future(anext(run))
        first.link.lose(ProviderLost("it died"))
        (other,) = [provider for provider in providers if provider.link is not first.link]
        second, rest = await asked([other])
        assert isinstance(rest, Generate)
        assert rest.produced == [[1, 2]]
        assert rest.sampling == whole.sampling
        assert rest.sampling.seed is not None
        second.answer(tokens(3, finish=FinishReason.STOP), Finished(Usage(5, 1, 9)))
        assert [piece.token_ids for piece in await taking] == [[3]]
        with pytest.raises(StopAsyncIteration):
            await anext(run)
        assert run.usage == Usage(5, 3, 5)

    play(scenario)


@pytest.mark.parametrize("code", ["context_length_exceeded", "internal_error"])
def test_what_three_providers_refuse_is_refused_and_nobody_is_blamed(code: str) -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        first, _ = await asked(providers)
        first.answer(Failed(ErrorInfo(code, "the first says so")))
        for _ in range(2):
            other, _ = await asked([p for p in providers if p.link is not first.link])
            other.answer(failed(code))
        with pytest.raises(TandemError, match="the first says so") as refused:
            await taking
        assert refused.value.code == code
        assert run.progress.attempts == 3
        assert faults(providers) == 0

    play(scenario, providers=4)


def test_the_word_of_the_only_provider_is_enough() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        played, _ = await asked(providers)
        played.answer(failed("context_length_exceeded"))
        with pytest.raises(ContextLengthExceeded):
            await taking
        assert run.progress.attempts == 1

    play(scenario, providers=1)


def test_no_provider_can_refuse_what_another_does() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        first, _ = await asked(providers)
        first.answer(failed("invalid_request"))
        second, _ = await asked(providers)
        assert second.link is not first.link
        second.answer(tokens(1, finish=FinishReason.STOP), Finished(Usage(5, 1, 0)))
        assert await taking

    play(scenario)


def test_tokens_that_others_refuse_are_no_mistake_of_the_consumers() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        liar, _ = await asked(providers)
        liar.answer(tokens(123_456))
        await taking
        taking = asyncio.ensure_future(anext(run))
        rest = [provider for provider in providers if provider.link is not liar.link]
        dies(next(provider for provider in providers if provider.link is liar.link))
        for _ in rest:
            played, _ = await asked(rest)
            played.answer(failed("invalid_request"))
        with pytest.raises(ProviderLost, match="go on from"):
            await taking

    play(scenario, providers=3)


def test_a_provider_that_cannot_embed_ends_the_request_and_is_not_blamed() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        played, work = await asked(providers)
        assert isinstance(work, Embed)
        assert work.prompts == [TextPrompt("hi")]
        played.answer(failed("unsupported_parameter"))
        with pytest.raises(UnsupportedParameter):
            await taking
        assert run.progress.attempts == 1
        assert faults(providers) == 0

    play(scenario, providers=1, task=Embedding([TextPrompt("hi")]))


def test_an_embedding_whose_provider_is_lost_is_asked_for_again() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        first, _ = await asked(providers)
        first.link.lose(ProviderLost("it died"))
        second, work = await asked([p for p in providers if p.link is not first.link])
        assert isinstance(work, Embed)
        second.answer(Finished(Usage(5, 0, 0)))
        with pytest.raises(StopAsyncIteration):
            await taking
        assert run.usage == Usage(5, 0, 0)

    play(scenario, task=Embedding([TextPrompt("hi")]))


@pytest.mark.parametrize(("code", "counted"), [("overloaded", 0), ("executor_failed", 1)])
def test_who_is_busy_is_not_blamed_and_who_fails_is(code: str, counted: int) -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        first, _ = await asked(providers)
        first.answer(failed(code))
        second, _ = await asked(providers)
        second.answer(tokens(1, finish=FinishReason.STOP))
        await taking
        assert faults(providers) == counted

    play(scenario)


def test_an_answer_whose_goodbye_is_lost_is_whole() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        played, _ = await asked(providers)
        played.answer(tokens(1, finish=FinishReason.STOP))
        await taking
        last = asyncio.ensure_future(anext(run))
        played.link.lose(ProviderLost("it died"))
        with pytest.raises(StopAsyncIteration):
            await last
        assert run.usage == Usage(5, 1, 0)

    play(scenario)


def test_where_nobody_is_there_is_no_second_attempt() -> None:
    async def scenario(run: RequestRun, _: list[Provider]) -> None:
        with pytest.raises(ModelNotFound):
            await anext(run)
        assert run.progress.attempts == 0

    play(scenario, providers=0)
