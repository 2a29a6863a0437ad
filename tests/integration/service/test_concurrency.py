"""Many requests at once: each gets what it gets alone, and those cancelled leave nothing behind."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import httpx2
from openai import AsyncOpenAI
from tests.support.running_up import Up
from tests.support.waiting import DEADLINE_S, until

Asked = dict[str, Any]
QUESTIONS = (
    "Hello!",
    "What is 3 + 4?",
    "Count to 25.",
    "Tell me a two-sentence story about a fox.",
    "Who are you?",
    "List the days of the week.",
)


def _client(up: Up) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=up.base_url, api_key=up.api_key, timeout=DEADLINE_S)


def _mixed_requests(up: Up, count: int) -> list[Asked]:
    """Long and short, greedy and sampled, streaming and not, with and without penalties."""
    random = Random(5)
    requests = []
    for i in range(count):
        content = random.choice(QUESTIONS)
        if i % 8 == 3:
            content = "a long prompt of words " * 60 + content
        request: Asked = {
            "model": up.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": random.choice((8, 24, 64)),
            "temperature": random.choice((0.0, 0.7, 1.3)),
            "seed": i,
            "stream": i % 2 == 0,
        }
        if i % 5 == 1:
            request |= {"presence_penalty": 0.5, "frequency_penalty": 0.3, "top_p": 0.9}
        if i % 7 == 2:
            request |= {"n": 2}
        requests.append(request)
    return requests


async def _texts(client: AsyncOpenAI, request: Asked) -> list[tuple[str, str | None]]:
    """The text and finish reason of each choice."""
    answer: Any = await client.chat.completions.create(**request)
    if not request["stream"]:
        return [(choice.message.content or "", choice.finish_reason) for choice in answer.choices]
    texts = [""] * request.get("n", 1)
    reasons: list[str | None] = [None] * len(texts)
    async for chunk in answer:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    return list(zip(texts, reasons, strict=True))


def test_32_mixed_requests_give_exactly_what_each_gives_alone(up: Up) -> None:
    async def scenario() -> None:
        requests = _mixed_requests(up, 32)
        async with _client(up) as client:
            alone = [await _texts(client, request) for request in requests]
            together = await asyncio.gather(*(_texts(client, request) for request in requests))
        assert together == alone

    asyncio.run(scenario())


def test_200_cancelled_requests_leave_no_block_taken(up: Up) -> None:
    async def abandon(client: AsyncOpenAI, number: int) -> None:
        stream = await client.chat.completions.create(
            model=up.model,
            messages=[{"role": "user", "content": f"Count to {number % 90 + 10}."}],
            max_tokens=1000,
            stream=True,
            seed=number,
            extra_body={"ignore_eos": True},
        )
        async for _ in stream:
            break  # at the first event
        await stream.close()

    async def scenario() -> None:
        async with _client(up) as client:
            for start in range(0, 200, 20):
                await asyncio.gather(*(abandon(client, start + i) for i in range(20)))

    asyncio.run(scenario())
    headers = {"Authorization": f"Bearer {up.operator_key}"}
    with httpx2.Client(headers=headers, timeout=DEADLINE_S) as http:

        def provider() -> dict[str, int]:
            (found,) = http.get(f"{up.base_url}/status").json()["providers"]
            assert isinstance(found, dict)
            return found

        # The heartbeat after the last cancel says so.
        until(lambda: not any(provider()[name] for name in ("in_flight", "running", "waiting")))
        assert provider()["free_blocks"] == provider()["total_blocks"]
