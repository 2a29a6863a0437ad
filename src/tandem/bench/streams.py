"""A consumer that costs little: chat completions over plain sockets, timed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httptools
import msgspec

from tandem.client import SseDecoder
from tandem.coordinator import Trace
from tandem.errors import ProtocolError

_DONE = b"[DONE]"
_TRACE = b" tandem-trace "


class TimedAnswer(msgspec.Struct, frozen=True):
    """Seconds from connecting; `started` in Unix time; `text` is the whole answer.

    `first_s` is the first token's of a stream, and the answer's otherwise.
    """

    text: str
    started: float
    first_s: float
    total_s: float
    trace: Trace | None


class _Choice(msgspec.Struct, frozen=True):
    delta: dict[str, Any] = {}
    message: dict[str, Any] = {}


class _Event(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    error: dict[str, Any] | None = None


_decoder = msgspec.json.Decoder(_Event)
_trace_decoder = msgspec.json.Decoder(Trace)


class _Received:
    """httptools' callbacks: takes the body apart as it comes."""

    def __init__(self, started: float, *, stream: bool) -> None:
        self.complete = False
        self.done = False
        self.texts: list[str] = []
        self.first_s: float | None = None
        self.trace: Trace | None = None
        self._started = started
        self._events = SseDecoder(self._on_comment) if stream else None
        self._body = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"x-tandem-trace":
            self.trace = _trace_decoder.decode(value)

    def on_body(self, body: bytes) -> None:
        if self._events is None:
            self._body += body
            return
        for data in self._events.feed(body):
            self._take(data)

    def on_message_complete(self) -> None:
        self.complete = True
        if self._events is None:
            self._take(self._body)
            self.done = True

    def _on_comment(self, comment: bytes) -> None:
        if comment.startswith(_TRACE):
            self.trace = _trace_decoder.decode(comment[len(_TRACE) :])

    def _take(self, data: bytes) -> None:
        """Raises ProtocolError for an error."""
        if data == _DONE:
            self.done = True
            return
        event = _decoder.decode(data)
        if event.error is not None:
            raise ProtocolError(f"the request failed: {event.error}")
        parts = (choice.delta or choice.message for choice in event.choices)
        text = "".join(str(part.get("content") or "") for part in parts)
        if text and self.first_s is None:
            self.first_s = time.perf_counter() - self._started
        self.texts.append(text)


class Consumer:
    """One connection that stays open between requests. Needs `close`."""

    def __init__(self, host: str, port: int, api_key: str, *, trace: bool) -> None:
        self._address = (host, port)
        self._head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\n"
            f"Authorization: Bearer {api_key}\r\nContent-Type: application/json\r\n"
        )
        if trace:
            self._head += "X-Tandem-Trace: 1\r\n"
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: dict[str, Any], *, stream: bool = True) -> TimedAnswer:
        """One chat completion. Raises ProtocolError unless it ends well, and OSError."""
        body = msgspec.json.encode(request | {"stream": stream})
        started, clock = time.time(), time.perf_counter()
        received = _Received(clock, stream=stream)
        if self._connection is None:
            self._connection = await asyncio.open_connection(*self._address)
        reader, writer = self._connection
        writer.write(f"{self._head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await _read(reader, received)
        total_s = time.perf_counter() - clock
        text = "".join(received.texts)
        return TimedAnswer(text, started, received.first_s or total_s, total_s, received.trace)

    def close(self) -> None:
        if self._connection is not None:
            self._connection[1].close()


async def complete_chat(
    host: str, port: int, api_key: str, request: dict[str, Any], *, stream: bool = True
) -> TimedAnswer:
    """One chat completion on a connection of its own, traced. Raises what `Consumer.ask` does."""
    consumer = Consumer(host, port, api_key, trace=True)
    try:
        return await consumer.ask(request, stream=stream)
    finally:
        consumer.close()


async def _read(reader: asyncio.StreamReader, received: _Received) -> None:
    parser = httptools.HttpResponseParser(received)
    while not received.complete:
        piece = await reader.read(65536)
        if not piece:
            break
        try:
            parser.feed_data(piece)
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
    if parser.get_status_code() != 200 or not received.done:
        raise ProtocolError(f"the answer ended early, with status {parser.get_status_code()}")
