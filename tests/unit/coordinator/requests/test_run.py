"""A request on its way over several providers, without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.support.registered import beat, join, make_registry
from tests.support.requests_played import LinkPlayed

from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.requests.consumer import Consumer
from tandem.coordinator.requests.estimator import Estimator
from tandem.coordinator.requests.inference_request import (
    Embedding,
    Generation,
    InferenceRequest,
)
from tandem.coordinator.requests.run import RequestRun
from tandem.coordinator.routing.admission import Admission
from tandem.errors import (
    ContextLengthExceeded,
    ExecutorFailed,
    ModelNotFound,
    ProviderLost,
    UnsupportedParameter,
)
from tandem.protocol import (
    Chunk,
    Delta,
    Embed,
    ErrorInfo,
    Failed,
    Finished,
    FinishReason,
    Generate,
    ModelName,
    Sampling,
    TextPrompt,
    Usage,
    Work,
)

MODEL = ModelName("m")
CONFIG = CoordinatorConfig(
    host="", port=0, data_dir=Path(), join_token="", patience_s=0.0, max_retries=2
)
GENERATION = Generation([TextPrompt("hi")], 1, Sampling(max_tokens=8))

Scenario = Callable[[RequestRun, list[Provider]], Awaitable[None]]


def play(
    scenario: Scenario, *, providers: int = 2, task: Generation | Embedding = GENERATION
) -> None:
    async def main() -> None:
        registry = make_registry()
        joined = [join(registry, [MODEL]) for _ in range(providers)]
        for provider in joined:
            registry.heartbeat(provider, beat())
        run = RequestRun(
            InferenceRequest(MODEL, task),
            Consumer(),
            config=CONFIG,
            admission=Admission(registry, max_waiting=4, patience_s=0.0),
            estimator=Estimator(registry.affinity),
            clock=lambda: 0.0,
        )
        try:
            await scenario(run, joined)
        finally:
            run.close()
        assert all(provider.in_flight == 0 for provider in joined)

    asyncio.run(main())


async def asked(providers: list[Provider]) -> tuple[LinkPlayed, Work]:
    """The next request, and who is asked."""
    played = [LinkPlayed(provider.link) for provider in providers]
    reading = {asyncio.ensure_future(link.work()): link for link in played}
    done, waiting = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    (first,) = done
    return reading[first], first.result()


def tokens(*ids: int, finish: FinishReason | None = None) -> Chunk:
    return Chunk([Delta(0, "", list(ids), finish=finish)], prompt_tokens=5)


def failed(code: str) -> Failed:
    return Failed(ErrorInfo(code, "played", "model"))


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


def test_a_request_that_is_wrong_is_refused_once_and_nobody_is_blamed() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        played, _ = await asked(providers)
        played.answer(failed("context_length_exceeded"))
        with pytest.raises(ContextLengthExceeded):
            await taking
        assert run.progress.attempts == 1
        assert faults(providers) == 0

    play(scenario)


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

    play(scenario, task=Embedding([TextPrompt("hi")]))


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


def test_after_so_many_failures_the_last_ones_error_is_the_answer() -> None:
    async def scenario(run: RequestRun, providers: list[Provider]) -> None:
        taking = asyncio.ensure_future(anext(run))
        for _ in range(CONFIG.max_retries + 1):
            played, _ = await asked(providers)
            played.answer(failed("executor_failed"))
        with pytest.raises(ExecutorFailed):
            await taking
        assert run.progress.attempts == CONFIG.max_retries + 1

    play(scenario, providers=CONFIG.max_retries + 1)


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


def faults(providers: list[Provider]) -> int:
    """So many that two more faults would set aside, for all that is known."""
    counted = 0
    for provider in providers:
        ticket = provider.breaker.begin()
        provider.breaker.fault(ticket, 0.0)
        provider.breaker.fault(ticket, 0.0)
        counted += provider.breaker.is_open
    return counted
