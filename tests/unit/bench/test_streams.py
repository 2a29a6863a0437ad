"""The benchmark's consumer reads answers as they come, and takes no failure for an answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from tandem.bench.streams import TimedAnswer, complete_chat
from tandem.coordinator import Trace
from tandem.errors import ProtocolError
from tandem.protocol import Timings

_TRACE = Trace(1.0, 2.0, 3.0, 4.0, Timings(5.0, 6.0, 7.0, 8.0), 9.0)
_TRACE_JSON = msgspec.json.encode(_TRACE).decode()


def _event(text: str) -> str:
    return "data: " + json.dumps({"choices": [{"delta": {"content": text}}]}) + "\n\n"


async def _ask(response: str, *, stream: bool, cut: int = 10_000) -> TimedAnswer:
    """What a server gives that answers everything with `response`, some bytes at a time."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        raw = response.encode()
        for start in range(0, len(raw), cut):
            writer.write(raw[start : start + cut])
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        request: dict[str, Any] = {"model": "m"}
        return await complete_chat("127.0.0.1", port, "key", request, stream=stream)


def _http(body: str, *, status: str = "200 OK", header: str = "") -> str:
    return f"HTTP/1.1 {status}\r\n{header}Content-Length: {len(body.encode())}\r\n\r\n{body}"


@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_a_stream_is_its_pieces_and_its_trace(cut: int) -> None:
    body = _event("Grüße ") + _event("dir") + f": tandem-trace {_TRACE_JSON}\n\ndata: [DONE]\n\n"
    timings = asyncio.run(_ask(_http(body), stream=True, cut=cut))
    assert (timings.text, timings.trace) == ("Grüße dir", _TRACE)
    assert 0 < timings.first_s <= timings.total_s


def test_a_whole_answer_is_its_message_and_its_trace() -> None:
    body = json.dumps({"choices": [{"message": {"content": "all of it"}}]})
    header = f"X-Tandem-Trace: {_TRACE_JSON}\r\n"
    timings = asyncio.run(_ask(_http(body, header=header), stream=False))
    assert (timings.text, timings.trace) == ("all of it", _TRACE)
    assert timings.first_s <= timings.total_s


@pytest.mark.parametrize(
    "response",
    [
        _http(_event("half")),
        _http(_event("half") + 'data: {"error": {"message": "lost"}}\n\n'),
        _http('{"error": {"message": "busy"}}', status="429 Too Many Requests"),
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + _event("half"),
    ],
    ids=["no end", "an error", "refused", "cut off"],
)
def test_what_does_not_end_well_is_no_answer(response: str) -> None:
    with pytest.raises(ProtocolError):
        asyncio.run(_ask(response, stream=True))
