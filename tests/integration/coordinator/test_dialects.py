"""A second dialect, which is nothing but a row of the table, beside OpenAI's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated

import httpx2
import msgspec
import pytest
from starlette.types import Scope
from tests.integration.coordinator.conftest import (
    MODEL,
    TIMEOUT_S,
    PlayedProvider,
    Running,
    provider_socket,
    running,
    until_models,
)

from tandem import protocol
from tandem.coordinator.api import app
from tandem.coordinator.api.dialect import Dialect, InferenceRoute, WholeChoice
from tandem.coordinator.api.http import header
from tandem.coordinator.requests.inference_request import Generation, InferenceRequest
from tandem.errors import TandemError, UnsupportedParameter
from tandem.protocol import Chunk, Delta, Failed, Finished, FinishReason, Usage

PATH = "/plain/say"


class Say(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    engine: str
    words: Annotated[str, msgspec.Meta(min_length=1)]
    most: int | None = None
    stream: bool | None = None
    sing: bool = False


def to_request(say: Say) -> InferenceRequest:
    if say.sing:
        raise UnsupportedParameter("sing: nobody sings here", param="sing")
    sampling = protocol.Sampling(max_tokens=say.most)
    task = Generation([protocol.TextPrompt(say.words)], 1, sampling)
    return InferenceRequest(protocol.ModelName(say.engine), task)


def error_body(error: TandemError) -> bytes:
    return msgspec.json.encode({"oops": error.code, "where": error.param})


class PlainFormat:
    """Events with names, texts as they are, and a last word."""

    def __init__(self, say: Say, answer_id: str, created: int) -> None:
        assert answer_id
        assert created
        self._engine = say.engine

    def whole(self, choices: dict[int, WholeChoice], usage: Usage) -> bytes:
        said = "".join(choices[0].texts)
        return msgspec.json.encode({"said": said, "cost": usage.completion_tokens})

    def opening(self, choices: int) -> bytes:
        return f"event: {self._engine}\ndata: {choices}\n\n".encode()

    def event(self, delta: Delta) -> bytes:
        return f"event: word\ndata: {delta.text}\n\n".encode()

    def end(self, usage: Usage) -> bytes:
        return f"event: bye\ndata: {usage.completion_tokens}\n\n".encode()

    def error(self, error: TandemError) -> bytes:
        return f"event: oops\ndata: {error.code}\n\n".encode()


def credentials(scope: Scope) -> str | None:
    key = header(scope, b"x-plain-key")
    return None if key is None else f"Bearer {key}"


PLAIN = Dialect((InferenceRoute(PATH, Say, to_request, PlainFormat),), error_body, credentials)

Scenario = Callable[[PlayedProvider, httpx2.AsyncClient], Awaitable[None]]


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory: Path = tmp_path_factory.mktemp("dialects")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(app, "DIALECTS", (*app.DIALECTS, PLAIN))
        with running(directory) as found:
            yield found


def client(coordinator: Running) -> httpx2.AsyncClient:
    headers = {"x-plain-key": coordinator.key} | coordinator.headers
    return httpx2.AsyncClient(base_url=coordinator.url, headers=headers, timeout=TIMEOUT_S)


def play(coordinator: Running, scenario: Scenario) -> None:
    async def main() -> None:
        async with provider_socket(coordinator) as socket, client(coordinator) as http:
            provider = PlayedProvider(socket)
            await provider.welcome()
            await until_models(http, [MODEL])
            await scenario(provider, http)

    asyncio.run(main())


def say(http: httpx2.AsyncClient, **more: object) -> asyncio.Future[httpx2.Response]:
    return asyncio.ensure_future(http.post(PATH, json={"engine": MODEL, "words": "hi"} | more))


def delta(text: str, finish: FinishReason | None = None) -> Delta:
    return Delta(0, text, [1], finish=finish)


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_written_in_its_format(coordinator: Running, stream: bool) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        asked = say(http, most=2, stream=stream)
        request = await provider.generate()
        assert request.content.prompts == [protocol.TextPrompt("hi")]
        assert request.content.sampling.max_tokens == 2
        await provider.reply(request.request_id, Chunk([delta("Hello")]))
        await provider.reply(request.request_id, Chunk([delta("you", FinishReason.STOP)]))
        await provider.reply(request.request_id, Finished(Usage(3, 2, 0)))
        response = await asked
        assert response.status_code == 200
        if not stream:
            assert response.json() == {"said": "Helloyou", "cost": 2}
            return
        names = [line for line in response.text.splitlines() if line.startswith("event:")]
        assert names[0] == f"event: {MODEL}"
        assert set(names[1:-1]) == {"event: word"}
        assert response.text.endswith("event: bye\ndata: 2\n\n")
        assert "[DONE]" not in response.text

    play(coordinator, scenario)


def test_an_error_during_a_stream_is_its_last_event(coordinator: Running) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        begun = asyncio.Event()

        async def fail_once_begun() -> None:
            request = await provider.generate()
            await provider.reply(request.request_id, Chunk([delta("Hello")]))
            await begun.wait()
            failed = Failed(protocol.ErrorInfo("invalid_request", "no"))
            await provider.reply(request.request_id, failed)

        body, text = {"engine": MODEL, "words": "hi", "stream": True}, ""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail_once_begun())
            async with http.stream("POST", PATH, json=body) as response:
                async for piece in response.aiter_text():
                    begun.set()  # there is no status to change any more
                    text += piece
        assert response.status_code == 200
        assert text.endswith("event: word\ndata: Hello\n\nevent: oops\ndata: invalid_request\n\n")

    play(coordinator, scenario)


@pytest.mark.parametrize("stream", [False, True])
def test_an_error_before_the_answer_has_its_status(coordinator: Running, stream: bool) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        asked = say(http, stream=stream)
        request = await provider.generate()
        error = protocol.ErrorInfo("context_length_exceeded", "too long", "words")
        await provider.reply(request.request_id, Failed(error))
        response = await asked
        assert response.status_code == 400
        assert response.json() == {"oops": "context_length_exceeded", "where": "words"}

    play(coordinator, scenario)


@pytest.mark.parametrize(
    ("change", "status", "oops", "where"),
    [
        ({"words": ""}, 400, "invalid_request", "words"),
        ({"temperature": 1}, 400, "invalid_request", "temperature"),
        ({"sing": True}, 400, "unsupported_parameter", "sing"),
        ({"engine": "unheard of"}, 404, "model_not_found", "model"),
    ],
)
def test_a_refusal_is_written_in_its_format(
    coordinator: Running, change: dict[str, object], status: int, oops: str, where: str
) -> None:
    async def main() -> httpx2.Response:
        async with client(coordinator) as http:
            return await say(http, **change)

    response = asyncio.run(main())
    assert (response.status_code, response.json()) == (status, {"oops": oops, "where": where})
    assert response.headers["content-type"] == "application/json"


def test_its_key_comes_in_its_own_header(coordinator: Running) -> None:
    with httpx2.Client(base_url=coordinator.url, timeout=TIMEOUT_S) as http:
        for headers in ({}, coordinator.headers, {"x-plain-key": "sk-tandem-unknown"}):
            response = http.post(PATH, json={"engine": MODEL, "words": "hi"}, headers=headers)
            assert response.status_code == 401
            assert response.json() == {"oops": "invalid_api_key", "where": None}


def test_routes_that_are_not_there_are_refused_by_whose_path_it_is(coordinator: Running) -> None:
    with httpx2.Client(base_url=coordinator.url, timeout=TIMEOUT_S) as http:
        assert http.get(PATH).json() == {"oops": "method_not_allowed", "where": None}
        assert http.get(f"{PATH}/louder").json() == {"oops": "not_found", "where": None}
        for path in ("/v1/nothing", "/plain", f"{PATH}s"):
            assert http.get(path).json()["error"]["code"] == "not_found"
        assert http.get("/v1/chat/completions").json()["error"]["code"] == "method_not_allowed"
