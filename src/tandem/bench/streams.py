"""A consumer that costs little: streams of chat completions over plain sockets, timed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httptools
import msgspec

from tandem.errors import ProtocolError

_DONE = b"[DONE]"


class Timings(msgspec.Struct, frozen=True):
    """Seconds from sending the request; `text` is the whole answer."""

    text: str
    events: int
    first_s: float
    total_s: float


class _Choice(msgspec.Struct, frozen=True):
    delta: dict[str, Any]


class _Event(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    error: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(_Event)


class _Body:
    """httptools' callbacks: collects the body's lines."""

    def __init__(self) -> None:
        self.complete = False
        self._rest = b""
        self.data: list[bytes] = []

    def on_body(self, body: bytes) -> None:
        *lines, self._rest = (self._rest + body).split(b"\n")
        self.data += [line[6:] for line in lines if line.startswith(b"data: ")]

    def on_message_complete(self) -> None:
        self.complete = True


async def stream_chat(host: str, port: int, api_key: str, request: dict[str, Any]) -> Timings:
    """One streamed chat completion. Raises ProtocolError unless it ends well."""
    body = msgspec.json.encode(request | {"stream": True})
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\n"
        f"Authorization: Bearer {api_key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection(host, port)
    try:
        started = time.perf_counter()
        writer.write(head.encode() + body)
        return await _read(reader, started)
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader, started: float) -> Timings:
    received = _Body()
    parser = httptools.HttpResponseParser(received)
    texts: list[str] = []
    first_s = 0.0
    taken = 0
    while not received.complete:
        piece = await reader.read(65536)
        if not piece:
            break
        parser.feed_data(piece)
        for data in received.data[taken:]:
            text = _text(data)
            if text and not first_s:
                first_s = time.perf_counter() - started
            texts.append(text)
        taken = len(received.data)
    if parser.get_status_code() != 200 or not received.data or received.data[-1] != _DONE:
        raise ProtocolError(f"the stream ended with {received.data[-1:]}")
    text = "".join(texts)
    return Timings(text, len(received.data), first_s, time.perf_counter() - started)


def _text(data: bytes) -> str:
    if data == _DONE:
        return ""
    event = _decoder.decode(data)
    if event.error is not None:
        raise ProtocolError(f"the stream failed: {event.error}")
    return "".join(str(choice.delta.get("content") or "") for choice in event.choices)
