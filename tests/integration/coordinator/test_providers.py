"""How the coordinator treats providers: who is let in, who is sent requests, who is cut off."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress

import httpx2
import msgspec
import pytest
from tests.integration.coordinator.conftest import (
    MODEL,
    TIMEOUT_S,
    PlayedProvider,
    Running,
    provider_socket,
    until_models,
    until_providers,
)
from websockets.exceptions import ConnectionClosed

from tandem import protocol
from tandem.protocol import Chunk, Delta, Failed, Finished, FinishReason, Usage

Scenario = Callable[[PlayedProvider, httpx2.AsyncClient], Awaitable[None]]


def play(coordinator: Running, scenario: Scenario) -> None:
    async def main() -> None:
        async with (
            provider_socket(coordinator) as socket,
            httpx2.AsyncClient(
                base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
            ) as http,
        ):
            provider = PlayedProvider(socket)
            await provider.welcome()
            await until_models(http, [MODEL])
            await scenario(provider, http)

    asyncio.run(main())


def ask(http: httpx2.AsyncClient, **more: object) -> Awaitable[httpx2.Response]:
    request = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]} | more
    return http.post("/v1/chat/completions", json=request)


def text(index: int, content: str, finish: FinishReason | None = None) -> Delta:
    return Delta(index, content, [1], finish=finish)


def test_an_answer_is_passed_on(coordinator: Running) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        asked = asyncio.ensure_future(ask(http, temperature=0.5, max_tokens=7, stop="x"))
        request = await provider.generate()
        assert request.content.sampling.temperature == 0.5
        assert request.content.sampling.max_tokens == 7
        assert request.content.sampling.stop == ["x"]
        await provider.reply(request.request_id, Chunk([text(0, "Hel")]))
        await provider.reply(request.request_id, Chunk([text(0, "lo", FinishReason.STOP)]))
        await provider.reply(request.request_id, Finished(Usage(3, 2, 1)))
        body = (await asked).json()
        assert body["choices"][0]["message"]["content"] == "Hello"
        assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 1

    play(coordinator, scenario)


def test_a_providers_error_keeps_its_status_and_field(coordinator: Running) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        asked = asyncio.ensure_future(ask(http))
        request = await provider.generate()
        error = protocol.ErrorInfo("context_length_exceeded", "too long", "messages")
        await provider.reply(request.request_id, Failed(error))
        response = await asked
        assert response.status_code == 400
        assert response.json()["error"]["param"] == "messages"

    play(coordinator, scenario)


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_a_consumer_who_leaves_is_cancelled_at_the_provider(
    coordinator: Running, streaming: bool, begun: bool
) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        asked = asyncio.ensure_future(ask(http, stream=streaming))
        request = await provider.generate()
        if begun:
            await provider.reply(request.request_id, Chunk([text(0, "a")]))
        asked.cancel()
        assert await provider.receive() == protocol.Cancel(request.request_id)

    play(coordinator, scenario)


def test_a_consumer_who_reads_nothing_is_granted_nothing(coordinator: Running) -> None:
    piece = "~" * 100_000

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": True}
        request = http.build_request("POST", "/v1/chat/completions", json=body)
        opening = asyncio.ensure_future(http.send(request, stream=True))
        generate = await provider.generate()
        sent, granted = 0, 0
        with suppress(TimeoutError):
            while True:  # until every buffer on the way is full, and no grant comes any more
                while sent < generate.window + granted:
                    await provider.reply(generate.request_id, Chunk([Delta(0, piece, [1] * 100)]))
                    sent += 1
                async with asyncio.timeout(1.0):
                    grant = await provider.receive()
                assert isinstance(grant, protocol.Grant)
                granted += grant.chunks
        assert sent * len(piece) < 100_000_000
        response, read = await opening, 0
        async for received in response.aiter_bytes():
            read += received.count(b"~")
            if read == sent * len(piece):
                break
        await response.aclose()

    play(coordinator, scenario)


@pytest.mark.parametrize(
    "broken",
    [
        Chunk([text(5, "a")]),
        Finished(Usage(1, 1, 0)),
        Chunk([Delta(0, "", [-7])], 3),
        Chunk([Delta(0, "", [2**40])], 3),
        Chunk([Delta(0, "", [5] * 2**21)], 3),
        Chunk([Delta(0, "", [5]) for _ in range(100_000)], 3),
        Chunk([Delta(0, "a" * 2**21, [5])], 3),
        Chunk([Delta(0, "a" * 2**19, [5])], 3),
        Chunk([], 10**12),
        Chunk([Delta(0, "", [5], [protocol.TokenLogprob("a", 5, math.nan, b"a", [])])], 3),
    ],
    ids=[
        "no such choice",
        "finished too early",
        "a negative token",
        "a huge token",
        "too many tokens",
        "too many deltas",
        "too large",
        "too much text",
        "a huge prompt",
        "no number",
    ],
)
def test_a_provider_that_breaks_the_rules_is_cut_off_and_its_request_goes_on(
    coordinator: Running, broken: protocol.AnswerPart
) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        asked = asyncio.ensure_future(ask(http))
        request = await provider.generate()
        with suppress(ConnectionClosed):  # it may end before all of this is sent
            await provider.reply(request.request_id, broken)
        with pytest.raises(ConnectionClosed):
            await provider.receive()
        await until_models(http, [])
        async with provider_socket(coordinator) as socket:
            honest = PlayedProvider(socket, "honest")
            await honest.welcome()
            again = await honest.generate()
            assert again.content.produced == []
            await honest.reply(again.request_id, Chunk([text(0, "a", FinishReason.STOP)], 3))
            await honest.reply(again.request_id, Finished(Usage(3, 1, 0)))
            assert (await asked).status_code == 200

    play(coordinator, scenario)


@pytest.mark.parametrize("role", [1, 3, -1, "0", 1.0, True, [0]], ids=repr)
def test_only_rank_0_is_routable(coordinator: Running, role: object) -> None:
    """C1, C2: a rank above 0 and a role that is none are sent nothing, from the next beat on."""

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        await provider.beat(cluster_role=role)
        await until_models(http, [])
        response = await ask(http)
        assert response.status_code == 503
        assert response.json()["error"]["code"] == "no_provider_available"
        assert int(response.headers["retry-after"]) > 0
        await provider.beat(cluster_role=0)
        await until_models(http, [MODEL])

    play(coordinator, scenario)


@pytest.mark.parametrize(
    "frame",
    [
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 60_000,
        msgspec.msgpack.encode({"type": "heartbeat", "cluster_role": [{}] * 60_000}),
        msgspec.msgpack.encode({"type": "hello", "versions": [{}] * 60_000}),
        msgspec.msgpack.encode({"type": "proof", "evidence": {}}),
    ],
    ids=["a vast map", "a vast list", "nested", "a heartbeat", "a large hello", "a proof"],
)
def test_from_a_stranger_only_a_small_hello_is_decoded(coordinator: Running, frame: bytes) -> None:
    async def main() -> None:
        async with provider_socket(coordinator) as socket:
            await socket.send(frame)
            refused = protocol.decode_to_provider(await socket.recv(decode=False))
            assert isinstance(refused, protocol.Refused)
            assert refused.error.code == "protocol_error"
            assert refused.error.message.startswith("not a hello")
            with pytest.raises(ConnectionClosed):
                await socket.recv()

    asyncio.run(main())


def test_a_draining_provider_gets_nothing_new_and_finishes_what_it_has(
    coordinator: Running,
) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        asked = asyncio.ensure_future(ask(http))
        request = await provider.generate()
        await provider.send(protocol.Draining())
        await until_models(http, [])
        assert (await ask(http)).status_code == 503
        await provider.reply(request.request_id, Chunk([text(0, "a", FinishReason.STOP)]))
        await provider.reply(request.request_id, Finished(Usage(1, 1, 0)))
        assert (await asked).status_code == 200

    play(coordinator, scenario)


@pytest.mark.parametrize("how", ["altered", "repeated", "left out", "of another request"])
def test_an_answer_that_is_out_of_place_ends_the_connection(coordinator: Running, how: str) -> None:
    """The sealed hop, from the provider: what does not open is no token."""

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        asked = [asyncio.ensure_future(ask(http)) for _ in range(2)]
        request, other = [await provider.generate() for _ in range(2)]
        first, second, third = (
            request.asked.seal(protocol.encode(Chunk([text(0, letter)]))) for letter in "abc"
        )
        bad = {
            "altered": second[:-1] + bytes([second[-1] ^ 1]),
            "repeated": first,
            "left out": third,
            "of another request": other.asked.seal(b""),
        }[how]
        await provider.send(protocol.Reply(request.request_id, first))
        await provider.send(protocol.Reply(request.request_id, bad))
        await until_models(http, [])
        assert not any(response.done() for response in asked), "they wait for another provider"
        for response in asked:
            response.cancel()

    play(coordinator, scenario)


def test_neither_prompt_nor_answer_is_in_the_frames(coordinator: Running) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        messages = [{"role": "user", "content": "a very secret prompt"}]
        asked = asyncio.ensure_future(ask(http, messages=messages))
        frame = await provider.socket.recv(decode=False)
        assert b"secret" not in frame
        message = protocol.decode_to_provider(bytes(frame))
        assert isinstance(message, protocol.Request)
        request = provider.open(message)
        assert request.content.prompts == [
            protocol.ChatPrompt([protocol.ChatMessage("user", "a very secret prompt")])
        ]
        done = Chunk([text(0, "a discreet answer", FinishReason.STOP)])
        await provider.reply(request.request_id, done)
        assert b"discreet" not in provider.sent[-1]
        await provider.reply(request.request_id, Finished(Usage(1, 1, 0)))
        assert "discreet" in (await asked).text

    play(coordinator, scenario)


def _refusal(
    coordinator: Running, greet: Callable[[PlayedProvider], Awaitable[protocol.ToProvider]]
) -> protocol.ErrorInfo:
    """What the coordinator says to a provider before it closes the connection."""

    async def main() -> protocol.ErrorInfo:
        async with provider_socket(coordinator) as socket:
            provider = PlayedProvider(socket)
            answer = await greet(provider)
            assert isinstance(answer, protocol.Refused)
            with pytest.raises(ConnectionClosed):
                await provider.receive()
            return answer.error

    return asyncio.run(main())


def test_a_wrong_join_token_is_refused_once_the_machine_has_proved_who_it_is(
    coordinator: Running,
) -> None:
    error = _refusal(coordinator, lambda provider: provider.join("wrong"))
    assert error.code == "invalid_api_key"


def test_another_version_is_refused_naming_both(coordinator: Running) -> None:
    async def greet(provider: PlayedProvider) -> protocol.ToProvider:
        await provider.hello(versions=[7, 8])
        return await provider.receive()

    error = _refusal(coordinator, greet)
    assert error.code == "protocol_error"
    assert "7, 8" in error.message
    assert "2" in error.message


def test_requests_are_shared_out(coordinator: Running) -> None:
    async def scenario(first: PlayedProvider, http: httpx2.AsyncClient) -> None:
        async with provider_socket(coordinator) as socket:
            second = PlayedProvider(socket)
            await second.welcome()
            await until_providers(http, 2)
            asked = [asyncio.ensure_future(ask(http)) for _ in range(4)]
            for provider in (first, second, first, second):
                request = await provider.generate()
                done = text(0, "a", FinishReason.STOP)
                await provider.reply(request.request_id, Chunk([done]))
                await provider.reply(request.request_id, Finished(Usage(1, 1, 0)))
            assert [(await response).status_code for response in asked] == [200] * 4

    play(coordinator, scenario)
