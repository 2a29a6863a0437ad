"""One backend behind several gateways: it answers with numbers, over HTTP and as a provider."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import uvicorn
import uvloop

from benchmarks.processes import JOIN_TOKEN
from benchmarks.relay.simulated_providers import PROMPT_TOKENS, Pace, SimulatedProvider, numbers
from tandem.bench import HOST
from tandem.runtime import raise_descriptor_limit

#: Models by name: as fast as it goes, and with 4 and 20 tokens a second.
FAST, CALM, BRISK = "echo", "echo-4", "echo-20"
PACES = {FAST: Pace(None), CALM: Pace(1 / 4), BRISK: Pace(1 / 20)}

_Send = Callable[[dict[str, Any]], Awaitable[None]]
_Receive = Callable[[], Awaitable[dict[str, Any]]]


class _Asked(msgspec.Struct, frozen=True):
    model: str
    max_tokens: int
    stream: bool = False


_decoder = msgspec.json.Decoder(_Asked)


def echo(coordinator_port: int, say: Callable[[object], None]) -> None:
    """For `child`: says the port where it answers over HTTP, once it has joined the coordinator."""
    raise_descriptor_limit()
    uvloop.run(_run(coordinator_port, say))


async def _run(coordinator_port: int, say: Callable[[object], None]) -> None:
    listening = socket.create_server((HOST, 0), backlog=2048)
    server = uvicorn.Server(
        uvicorn.Config(_answer, lifespan="off", log_level="error", access_log=False)
    )
    url = f"ws://{HOST}:{coordinator_port}"
    providers = [
        SimulatedProvider(url, JOIN_TOKEN, name, pace, model=name) for name, pace in PACES.items()
    ]
    async with asyncio.TaskGroup() as tasks:
        joined = [tasks.create_task(provider.run()) for provider in providers]
        for provider in providers:
            await provider.joined.wait()
        serving = tasks.create_task(server.serve([listening]))
        say(listening.getsockname()[1])
        await serving  # until SIGTERM
        for task in joined:
            task.cancel()


async def _answer(_scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
    """`POST /v1/chat/completions`, as an ASGI application."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message.get("body", b"")
        more = message.get("more_body", False)
    asked = _decoder.decode(body)
    kind = b"text/event-stream" if asked.stream else b"application/json"
    head = [(b"content-type", kind)]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await (_stream if asked.stream else _whole)(asked, send)


async def _stream(asked: _Asked, send: _Send) -> None:
    async for number in numbers(0, asked.max_tokens, PACES[asked.model]):
        delta = {"role": "assistant", "content": f"{number} "}
        finish = "length" if number == asked.max_tokens - 1 else None
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        event = msgspec.json.encode(_shared(asked, "chat.completion.chunk") | {"choices": [choice]})
        part = b"data: " + event + b"\n\n"
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})


async def _whole(asked: _Asked, send: _Send) -> None:
    text = "".join([f"{n} " async for n in numbers(0, asked.max_tokens, PACES[asked.model])])
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": asked.max_tokens}
    answer = _shared(asked, "chat.completion") | {
        "choices": [{"index": 0, "message": message, "finish_reason": "length"}],
        "usage": usage | {"total_tokens": PROMPT_TOKENS + asked.max_tokens},
    }
    await send({"type": "http.response.body", "body": msgspec.json.encode(answer)})


def _shared(asked: _Asked, kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-echo", "object": kind, "created": 0, "model": asked.model}
