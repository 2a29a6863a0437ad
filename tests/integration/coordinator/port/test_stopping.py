"""A coordinator that stops while requests run and wait: each of them is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
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

CHAT = "/v1/chat/completions"
ASKED: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


def test_whoever_runs_or_waits_is_told_that_the_service_stops(tmp_path: Path) -> None:
    async def main(coordinator: Running) -> tuple[bytes, httpx2.Response, httpx2.Response]:
        async with (
            asyncio.timeout(TIMEOUT_S),
            provider_socket(coordinator) as socket,
            httpx2.AsyncClient(
                base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
            ) as http,
        ):
            provider = PlayedProvider(socket)
            await provider.join()
            await provider.beat(max_sequences=2)
            await until_models(http, [MODEL])
            streamed = asyncio.create_task(_read(http))
            opened = await provider.generate()
            whole = asyncio.create_task(http.post(CHAT, json=ASKED))
            await provider.generate()
            waits = asyncio.create_task(http.post(CHAT, json=ASKED))
            capacity = "/v1/models/capacity"
            while not (await http.get(capacity)).json()["data"][0]["queued"]:
                pass
            piece = protocol.Chunk([protocol.Delta(0, "one ", [1])], 1)
            await provider.reply(opened.request_id, piece)
            stopping = asyncio.create_task(asyncio.to_thread(coordinator.stop))
            told = await waits
            ended = await streamed, await whole
            await stopping
            return *ended, told

    with running(tmp_path, drain_timeout_s=0.2, patience_s=TIMEOUT_S) as coordinator:
        stream, whole, waited = asyncio.run(main(coordinator))
    events = [event for event in stream.decode().split("\n\n") if event.startswith("data: ")]
    last = json.loads(events[-1].removeprefix("data: "))
    assert last["error"]["code"] == "service_stopping"
    assert b"one " in stream
    assert b"[DONE]" not in stream
    for answer in (whole, waited):
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "service_stopping"
        assert "retry-after" in answer.headers


async def _read(http: httpx2.AsyncClient) -> bytes:
    async with http.stream("POST", CHAT, json=ASKED | {"stream": True}) as answer:
        return await answer.aread()


@pytest.mark.parametrize("key", ["", "wrong"], ids=["read", "discarded"])
def test_whoever_is_sending_a_request_is_told_too(tmp_path: Path, key: str) -> None:
    """And not cut off, nor is it a defect to be logged."""

    async def main(coordinator: Running) -> bytes:
        async with asyncio.timeout(TIMEOUT_S):
            url = httpx2.URL(coordinator.url)
            reader, writer = await asyncio.open_connection(url.host, url.port)
            credentials = coordinator.headers["Authorization"] + key
            writer.write(_head(f"Authorization: {credentials}", "Content-Length: 500") + b"{")
            # What came before an answer to another connection has been read, too.
            async with httpx2.AsyncClient(
                base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
            ) as http:
                await http.get("/v1/models")
            stopping = asyncio.create_task(asyncio.to_thread(coordinator.stop))
            answer = await reader.read()
            writer.close()
            await stopping
            return answer

    with running(tmp_path, drain_timeout_s=0.2, close_timeout_s=TIMEOUT_S) as coordinator:
        answer = asyncio.run(main(coordinator))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b'"service_stopping"' in answer


def _head(*headers: str) -> bytes:
    return "\r\n".join([f"POST {CHAT} HTTP/1.1", "Host: x", *headers, "", ""]).encode()
