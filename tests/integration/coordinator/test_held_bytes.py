"""Bodies and requests are held within bounds: a stranger's not at all, a key's up to its share."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
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

from tandem.protocol import Chunk, Delta, Finished, FinishReason, Usage

CHAT = "/v1/chat/completions"
KIB = 1024


def asked(size: int) -> dict[str, object]:
    return {"model": MODEL, "messages": [{"role": "user", "content": "a" * size}]}


def head(key: str, *more: str) -> bytes:
    lines = (
        f"POST {CHAT} HTTP/1.1",
        "Host: here",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        "Connection: close",
        *more,
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


async def answer(coordinator: Running, sent: bytes) -> bytes:
    """All that is answered to bytes that end in the middle of a body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", coordinator.port)
    writer.write(sent)
    async with asyncio.timeout(TIMEOUT_S):
        found = await reader.read()
    writer.close()
    return found


async def finish(provider: PlayedProvider, request: Opened) -> None:
    last = Chunk([Delta(0, "yes", [1], finish=FinishReason.STOP)])
    await provider.reply(request.request_id, last)
    await provider.reply(request.request_id, Finished(Usage(1, 1, 0)))


def test_who_waits_to_be_asked_hears_first_that_the_key_is_wrong(coordinator: Running) -> None:
    """`Expect: 100-continue`: none of the body is asked for."""
    expects = ("Content-Length: 8000000", "Expect: 100-continue")
    told = asyncio.run(answer(coordinator, head("sk-tandem-unknown", *expects)))
    assert told.startswith(b"HTTP/1.1 401 ")
    assert b'"code":"invalid_api_key"' in told


def test_who_waits_to_be_asked_hears_first_that_it_is_too_much(coordinator: Running) -> None:
    expects = ("Content-Length: 80000000", "Expect: 100-continue")
    told = asyncio.run(answer(coordinator, head(coordinator.key, *expects)))
    assert told.startswith(b"HTTP/1.1 413 ")


def test_a_body_of_a_stranger_is_heard_out(coordinator: Running) -> None:
    with httpx2.Client(base_url=coordinator.url, timeout=TIMEOUT_S) as http:
        response = http.post(CHAT, content=b"x" * 1_000_000)
        assert response.status_code == 401


def test_a_keys_requests_hold_so_much_and_no_more(tmp_path: Path) -> None:
    """The third waits for nobody: it is told so, and has its turn when another has ended."""

    async def main(coordinator: Running) -> None:
        client = httpx2.AsyncClient(
            base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
        )
        async with provider_socket(coordinator) as socket, client as http:
            provider = PlayedProvider(socket)
            await provider.welcome()
            await until_models(http, [MODEL])
            # Each counts twice: as it is kept, and as it goes to a provider.
            first = asyncio.ensure_future(http.post(CHAT, json=asked(100 * KIB)))
            request = await provider.generate()
            refused = await http.post(CHAT, json=asked(100 * KIB))
            assert refused.status_code == 429
            assert refused.headers["retry-after"]
            assert refused.json()["error"]["code"] == "rate_limit_exceeded"
            small = asyncio.ensure_future(http.post(CHAT, json=asked(10)))
            await finish(provider, request)
            await finish(provider, await provider.generate())
            assert (await first).status_code == (await small).status_code == 200
            again = asyncio.ensure_future(http.post(CHAT, json=asked(100 * KIB)))
            await finish(provider, await provider.generate())
            assert (await again).status_code == 200

    with running(tmp_path, max_held_bytes_each=256 * KIB) as coordinator:
        asyncio.run(main(coordinator))
