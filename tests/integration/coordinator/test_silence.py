"""A stream is never silent for long, and clients read through what fills it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from openai import AsyncOpenAI
from tests.integration.coordinator.conftest import (
    MODEL,
    TIMEOUT_S,
    Opened,
    PlayedProvider,
    Running,
    provider_socket,
    running,
    until_models,
)

from tandem.protocol import Chunk, Delta, ErrorInfo, Failed, Finished, FinishReason, Usage

CHAT = "/v1/chat/completions"
BODY = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
COMMENT = ": keep-alive"

Scenario = Callable[[PlayedProvider, httpx2.AsyncClient], Awaitable[None]]


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One that fills every silence of some hundredths of a second."""
    directory: Path = tmp_path_factory.mktemp("silence")
    with running(directory, keep_alive_s=0.02) as found:
        yield found


def play(coordinator: Running, scenario: Scenario) -> None:
    async def main() -> None:
        http = httpx2.AsyncClient(
            base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
        )
        async with provider_socket(coordinator) as socket, http:
            provider = PlayedProvider(socket)
            await provider.welcome()
            await until_models(http, [MODEL])
            await scenario(provider, http)

    asyncio.run(main())


async def comes(lines: AsyncIterator[str], wanted: str) -> list[str]:
    """The lines until one that begins so, which is the last of them."""
    found = []
    async with asyncio.timeout(TIMEOUT_S):
        async for line in lines:
            found.append(line)
            if line.startswith(wanted):
                return found
    raise AssertionError(f"{wanted} has not come: {found}")


async def finish(provider: PlayedProvider, request: Opened) -> None:
    last = Chunk([Delta(0, "you", [2], finish=FinishReason.STOP)])
    await provider.reply(request.request_id, last)
    await provider.reply(request.request_id, Finished(Usage(3, 2, 0)))


def test_comments_come_before_the_first_token_and_between_tokens(coordinator: Running) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        async with http.stream("POST", CHAT, json=BODY) as response:
            assert response.status_code == 200
            lines = response.aiter_lines()
            await comes(lines, COMMENT)
            request = await provider.generate()
            await comes(lines, COMMENT)
            await provider.reply(request.request_id, Chunk([Delta(0, "Hello", [1])], 3))
            (first,) = [line for line in await comes(lines, "data:") if line.startswith("data:")]
            assert '"role":"assistant"' in first
            await comes(lines, COMMENT)
            await finish(provider, request)
            await comes(lines, "data: [DONE]")

    play(coordinator, scenario)


def test_a_stream_begins_when_its_engine_has_the_request(
    tmp_path: Path,
) -> None:
    """Long before the first token: a proxy sees the header, and a client its status."""

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        async def accept() -> Opened:
            request = await provider.generate()
            await provider.reply(request.request_id, Chunk([], 3))
            return request

        accepted = asyncio.ensure_future(accept())
        async with http.stream("POST", CHAT, json=BODY) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            await finish(provider, await accepted)
            said = [line async for line in response.aiter_lines() if line]
        assert said[-1] == "data: [DONE]"
        assert '"role":"assistant"' in said[0]

    with running(tmp_path, keep_alive_s=TIMEOUT_S) as coordinator:
        play(coordinator, scenario)


def test_a_refusal_before_that_has_a_status(tmp_path: Path) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        asked = asyncio.ensure_future(http.post(CHAT, json=BODY))
        request = await provider.generate()
        failed = Failed(ErrorInfo("context_length_exceeded", "too long", "messages"))
        await provider.reply(request.request_id, failed)
        assert (await asked).status_code == 400

    with running(tmp_path, keep_alive_s=TIMEOUT_S) as coordinator:
        play(coordinator, scenario)


def test_an_error_after_silence_is_an_event(coordinator: Running) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        async with http.stream("POST", CHAT, json=BODY) as response:
            lines = response.aiter_lines()
            await comes(lines, COMMENT)
            request = await provider.generate()
            failed = Failed(ErrorInfo("context_length_exceeded", "too long", "messages"))
            await provider.reply(request.request_id, failed)
            event = (await comes(lines, "data:"))[-1]
            assert '"code":"context_length_exceeded"' in event
            assert [line async for line in lines if line] == []

    play(coordinator, scenario)


def test_an_answer_at_once_is_json_and_nothing_else(coordinator: Running) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        asked = asyncio.ensure_future(http.post(CHAT, json=BODY | {"stream": False}))
        request = await provider.generate()
        async with http.stream("POST", CHAT, json=BODY) as beside:  # as long as a silence lasts
            await comes(beside.aiter_lines(), COMMENT)
        await finish(provider, request)
        assert (await asked).json()["choices"][0]["message"]["content"] == "you"

    play(coordinator, scenario)


def test_the_official_client_reads_through_comments(coordinator: Running) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        silent = asyncio.Event()

        async def answer() -> None:
            request = await provider.generate()
            async with http.stream("POST", CHAT, json=BODY) as beside:
                lines = beside.aiter_lines()
                for _ in range(3):
                    await comes(lines, COMMENT)
            await provider.reply(request.request_id, Chunk([Delta(0, "Hello ", [1])], 3))
            await silent.wait()
            await finish(provider, request)

        client = AsyncOpenAI(
            base_url=f"{coordinator.url}/v1",
            api_key=coordinator.key,
            timeout=TIMEOUT_S,
            max_retries=0,
        )
        text = ""
        async with asyncio.TaskGroup() as tasks, client:
            tasks.create_task(answer())
            stream = await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=True
            )
            async for chunk in stream:
                silent.set()
                text += chunk.choices[0].delta.content or ""
        assert text == "Hello you"

    play(coordinator, scenario)
