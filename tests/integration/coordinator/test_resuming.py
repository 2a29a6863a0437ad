"""Requests outlive providers: retried before the first token, gone on with after it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from tests.integration.coordinator.conftest import (
    MODEL,
    TIMEOUT_S,
    PlayedProvider,
    Running,
    provider_socket,
    running,
    until_providers,
)
from tests.support.stores import ledger_entries

from tandem import protocol
from tandem.coordinator import Entry
from tandem.protocol import Chunk, Delta, Failed, Finished, FinishReason, Usage

Scenario = Callable[[PlayedProvider, PlayedProvider, httpx2.AsyncClient], Awaitable[None]]
CHAT: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("resuming"), patience_s=0.5) as found:
        yield found


def play(coordinator: Running, scenario: Scenario) -> None:
    """The scenario gets the provider that is asked first, and the other."""

    async def main() -> None:
        async with (
            provider_socket(coordinator) as one,
            provider_socket(coordinator) as other,
            httpx2.AsyncClient(
                base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
            ) as http,
        ):
            providers = [PlayedProvider(one, "one"), PlayedProvider(other, "other")]
            for provider in providers:
                await provider.welcome()
            await until_providers(http, len(providers))
            await scenario(providers[0], providers[1], http)

    asyncio.run(main())


def stream(http: httpx2.AsyncClient, **more: object) -> asyncio.Task[list[dict[str, Any]]]:
    """All events of a streamed answer but the last, which must be [DONE] or an error."""

    async def read() -> list[dict[str, Any]]:
        request = CHAT | {"stream": True, "stream_options": {"include_usage": True}} | more
        async with http.stream("POST", "/v1/chat/completions", json=request) as response:
            lines = [line async for line in response.aiter_lines()]
        data = [line.removeprefix("data: ") for line in lines if line]
        return [msgspec.json.decode(event) for event in data if event != "[DONE]"]

    return asyncio.create_task(read())


def said(events: list[dict[str, Any]], index: int = 0) -> str:
    choices = [c for event in events for c in event.get("choices", ()) if c["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def chunk(
    text: str, tokens: list[int], finish: FinishReason | None = None, index: int = 0
) -> Chunk:
    return Chunk([Delta(index, text, tokens, finish=finish)], 3)


async def end(provider: PlayedProvider, asked: protocol.RequestId, usage: Usage) -> None:
    await provider.reply(asked, Finished(usage))


async def first(*providers: PlayedProvider) -> tuple[PlayedProvider, Any]:
    """Whichever provider gets the request, and the request."""
    tasks = {asyncio.create_task(p.generate()): p for p in providers}
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    (task,) = done
    return tasks[task], task.result()


@pytest.mark.parametrize("code", ["service_stopping", "link_lost", "executor_failed", "overloaded"])
def test_before_the_first_token_another_provider_is_asked(coordinator: Running, code: str) -> None:
    """C9."""

    async def scenario(
        one: PlayedProvider, other: PlayedProvider, http: httpx2.AsyncClient
    ) -> None:
        answer = stream(http, seed=5)
        asked_first, request = await first(one, other)
        spare = other if asked_first is one else one
        error = protocol.ErrorInfo(code, "not now")
        await asked_first.reply(request.request_id, Failed(error))
        again = await spare.generate()
        assert again.content.produced == []
        assert again.content.prompts == request.content.prompts
        assert again.request_id != request.request_id
        await spare.reply(again.request_id, chunk("Hello", [1], FinishReason.STOP))
        await end(spare, again.request_id, Usage(3, 1, 0))
        assert said(await answer) == "Hello"

    play(coordinator, scenario)


def test_after_it_the_answer_goes_on_from_the_tokens_that_were_sent(coordinator: Running) -> None:
    """C9: the consumer sees one stream, and pays once."""

    async def scenario(
        one: PlayedProvider, other: PlayedProvider, http: httpx2.AsyncClient
    ) -> None:
        answer = stream(http, n=2)
        asked_first, request = await first(one, other)
        spare = other if asked_first is one else one
        await asked_first.reply(request.request_id, chunk("Hel", [7, 8]))
        await asked_first.reply(
            request.request_id, chunk("Whole.", [4, 2], FinishReason.STOP, index=1)
        )
        await asked_first.socket.close()
        again = await spare.generate()
        assert again.content.produced == [[7, 8], None]
        assert again.content.sampling == request.content.sampling, "the seed must be the same"
        assert again.content.sampling.seed is not None
        assert again.deadline_s == request.deadline_s, "none, where there is no limit"
        await spare.reply(again.request_id, chunk("lo", [9], FinishReason.LENGTH))
        await end(spare, again.request_id, Usage(3, 3, 2))
        events = await answer
        assert (said(events), said(events, 1)) == ("Hello", "Whole.")
        assert events[-1]["usage"] == {
            "prompt_tokens": 3,
            "completion_tokens": 5,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 2},
        }

    play(coordinator, scenario)
    found: list[Entry] = []
    while not found:  # it is written a moment later
        rows = ledger_entries(coordinator.data_dir, limit=50)
        found = [row for row in rows if row.completion_tokens == 5 and row.total_s is not None]
    (row,) = found
    assert (row.outcome, row.attempts, row.prompt_tokens) == ("completed", 2, 3)


def test_a_provider_that_dies_after_the_last_token_has_done_its_work(coordinator: Running) -> None:
    async def scenario(
        one: PlayedProvider, other: PlayedProvider, http: httpx2.AsyncClient
    ) -> None:
        answer = stream(http)
        provider, request = await first(one, other)
        await provider.reply(request.request_id, chunk("All.", [1, 2], FinishReason.STOP))
        await provider.socket.close()
        events = await answer
        assert said(events) == "All."
        assert events[-1]["usage"]["completion_tokens"] == 2

    play(coordinator, scenario)


def test_an_engine_that_hangs_loses_its_requests_to_others(tmp_path: Path) -> None:
    """Its heartbeats go on, its steps do not."""

    async def scenario(
        one: PlayedProvider, other: PlayedProvider, http: httpx2.AsyncClient
    ) -> None:
        answer = stream(http)
        hung, request = await first(one, other)
        spare = other if hung is one else one
        await hung.reply(request.request_id, chunk("Hel", [7]))

        async def beat() -> None:
            for step in itertools.count():
                await hung.beat(running=1, steps=5)
                await spare.beat(running=1, steps=step)
                await asyncio.sleep(0.1)

        beating = asyncio.create_task(beat())
        again = await spare.generate()
        assert again.content.produced == [[7]]
        assert await hung.receive() == protocol.Cancel(request.request_id)
        beating.cancel()
        await spare.reply(again.request_id, chunk("lo", [8], FinishReason.STOP))
        await end(spare, again.request_id, Usage(3, 2, 0))
        assert said(await answer) == "Hello"
        listed = (await http.get("/v1/providers")).json()["data"]
        assert {p["name"]: p["set_aside"] for p in listed}[hung.name]

    with running(tmp_path, hangs_after_s=2.0) as coordinator:
        play(coordinator, scenario)


def test_a_consumers_own_mistake_is_one_when_every_provider_says_so(coordinator: Running) -> None:
    async def scenario(
        one: PlayedProvider, other: PlayedProvider, http: httpx2.AsyncClient
    ) -> None:
        asked = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
        error = protocol.ErrorInfo("context_length_exceeded", "too long", "messages")
        provider, request = await first(one, other)
        await provider.reply(request.request_id, Failed(error))
        spare = other if provider is one else one
        again = await spare.generate()
        await spare.reply(again.request_id, Failed(error))
        assert (await asked).status_code == 400

    play(coordinator, scenario)


def test_when_nobody_comes_back_in_time_the_stream_ends_with_an_error(tmp_path: Path) -> None:
    async def scenario(
        one: PlayedProvider, other: PlayedProvider, http: httpx2.AsyncClient
    ) -> None:
        answer = stream(http)
        provider, request = await first(one, other)
        await provider.reply(request.request_id, chunk("Hel", [7]))
        await one.socket.close()
        await other.socket.close()
        events = await answer
        assert said(events) == "Hel"
        assert events[-1]["error"]["code"] == "request_timed_out"

    with running(tmp_path, request_timeout_s=3.0) as coordinator:
        play(coordinator, scenario)


def test_a_request_that_two_providers_die_of_is_given_up(tmp_path: Path) -> None:
    """It is not tried a third time, and the log says whom it has cost."""

    async def main(coordinator: Running) -> None:
        async with (
            provider_socket(coordinator) as one,
            provider_socket(coordinator) as other,
            provider_socket(coordinator) as third,
            httpx2.AsyncClient(
                base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
            ) as http,
        ):
            providers = [PlayedProvider(s, n) for s, n in ((one, "1"), (other, "2"), (third, "3"))]
            for provider in providers:
                await provider.welcome()
            await until_providers(http, len(providers))
            asked = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
            for _ in range(2):
                victim, _request = await first(*providers)
                providers.remove(victim)
                await asyncio.sleep(1.1)  # what is lost within a second is lost for one reason
                await victim.socket.close()
            response = await asked
            assert response.status_code == 500
            assert response.json()["error"]["code"] == "request_given_up"
            assert response.headers["x-should-retry"] == "false"
            (spared,) = providers
            again = asyncio.create_task(http.post("/v1/chat/completions", json=CHAT))
            request = await spared.generate()
            await spared.reply(request.request_id, chunk("Hi", [7], FinishReason.STOP))
            await end(spared, request.request_id, Usage(3, 1, 0))
            assert (await again).status_code == 200

    with running(tmp_path, control_s=0.5, given_up_odds=1.0) as coordinator:
        asyncio.run(main(coordinator))


def test_requests_wait_for_a_provider_that_is_just_coming_back(tmp_path: Path) -> None:
    async def main(coordinator: Running) -> None:
        async with httpx2.AsyncClient(
            base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
        ) as http:
            async with provider_socket(coordinator) as socket:
                await PlayedProvider(socket).welcome()
                await until_providers(http, 1)
            await until_providers(http, 0)
            answer = stream(http)
            async with provider_socket(coordinator) as socket:
                back = PlayedProvider(socket)
                await back.welcome()
                request = await back.generate()
                await back.reply(request.request_id, chunk("Hi", [7], FinishReason.STOP))
                await end(back, request.request_id, Usage(3, 1, 0))
                assert said(await answer) == "Hi"

    with running(tmp_path, patience_s=TIMEOUT_S) as coordinator:
        asyncio.run(main(coordinator))
