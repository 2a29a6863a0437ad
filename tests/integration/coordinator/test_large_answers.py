"""Answers that come whole: large ones are written on a thread, too large ones are refused."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import httpx2
import pytest
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

from tandem.coordinator.api.dialect import WholeChoice
from tandem.coordinator.api.openai.format import ChatFormat
from tandem.protocol import (
    Chunk,
    Delta,
    Finished,
    FinishReason,
    TokenLogprob,
    TopLogprob,
    Usage,
)

TOKENS = 250
BODY = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": TOKENS,
    "logprobs": True,
    "top_logprobs": 20,
}
ENTRY = TokenLogprob("a", 7, -0.5, b"a", [TopLogprob("a", 7, -0.5, b"a")] * 20)


async def answer(provider: PlayedProvider, request: Opened) -> None:
    """As large as an answer of so many tokens gets."""
    last = Delta(0, "a" * TOKENS, [7] * TOKENS, [ENTRY] * TOKENS, FinishReason.STOP)
    await provider.reply(request.request_id, Chunk([last], 3))
    await provider.reply(request.request_id, Finished(Usage(3, TOKENS, 0)))


def asked(coordinator: Running) -> httpx2.Response:
    async def main() -> httpx2.Response:
        http = httpx2.AsyncClient(
            base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
        )
        async with provider_socket(coordinator) as socket, http:
            provider = PlayedProvider(socket)
            await provider.welcome()
            await until_models(http, [MODEL])
            response = asyncio.ensure_future(http.post("/v1/chat/completions", json=BODY))
            await answer(provider, await provider.generate())
            return await response

    return asyncio.run(main())


def test_a_large_answer_is_written_on_a_thread(
    coordinator: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    written_on: list[str] = []
    whole = ChatFormat.whole

    def noting(self: ChatFormat, choices: dict[int, WholeChoice], usage: Usage) -> bytes:
        written_on.append(threading.current_thread().name)
        return whole(self, choices, usage)

    monkeypatch.setattr(ChatFormat, "whole", noting)
    (choice,) = asked(coordinator).json()["choices"]
    assert choice["message"]["content"] == "a" * TOKENS
    assert len(choice["logprobs"]["content"]) == TOKENS
    assert len(choice["logprobs"]["content"][-1]["top_logprobs"]) == 20
    assert "asyncio" in written_on[0]  # its pool's; the loop's thread is the test's own


def test_an_answer_that_is_too_large_by_itself_is_refused_by_name(tmp_path: Path) -> None:
    with running(tmp_path, max_held_bytes_each=512 * 1024) as coordinator:
        response = asked(coordinator)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "n"
    assert "stream it" in error["message"]
