"""An HTTP connection: what it refuses, and when it gives up."""

from __future__ import annotations

import asyncio
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.coordinator.server.conftest import GET, SOON, echo, pieces, run, served

from tandem.coordinator.config import ConnectionLimits

# Headers.


@pytest.mark.parametrize(
    "endless",
    [
        b"GET / HTTP/1.1\r\nx: ",
        b"GET /",
        b"GET / HTTP/1.1\r\nx",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: ",
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1;x=",
    ],
    ids=["value", "target", "name", "trailer", "chunk-extension"],
)
def test_a_header_without_an_end_is_refused_at_its_limit(endless: bytes) -> None:
    async def main() -> None:
        async with served(echo) as client:
            # Trailers count from the limit's next multiple on: bodies may come with headers.
            flood = endless + b"a" * (2 * ConnectionLimits().max_header_bytes)
            assert await client.code(flood) == (431, "header_too_large")
            assert client.events == ["header_too_large"]

    run(main())


def test_a_header_of_just_the_limit_is_read() -> None:
    async def main() -> None:
        async with served(echo) as client:
            start, end = b"GET / HTTP/1.1\r\nhost: x\r\nx: ", b"\r\n\r\n"
            filler = ConnectionLimits().max_header_bytes - len(start + end)
            assert (await client.answer(start + b"a" * filler + end))[0] == 200
            assert await client.code(start + b"a" * (filler + 1) + end) == (431, "header_too_large")

    run(main())


def test_the_number_of_headers_is_bounded() -> None:
    async def main() -> None:
        async with served(echo) as client:
            many = b"a:b\r\n" * (ConnectionLimits().max_headers + 2)
            assert await client.code(b"GET / HTTP/1.1\r\n" + many) == (431, "header_too_large")

    run(main())


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nhost: x\r\n", GET[:-1]])
def test_a_header_that_does_not_come_in_time_is_given_up(sent: bytes) -> None:
    async def main() -> None:
        async with served(echo, SOON) as client:
            assert await client.code(sent) == (408, "request_too_slow")

    run(main())


def test_a_connection_without_a_request_is_closed_without_a_word() -> None:
    async def main() -> None:
        async with served(echo, SOON) as client:
            assert await client.reader.read() == b""
            assert client.events == ["no_request"]

    run(main())


def test_the_next_request_of_a_connection_has_its_deadline_too() -> None:
    async def main() -> None:
        async with served(echo, SOON) as client:
            assert (await client.answer(GET))[0] == 200
            assert await client.code(b"GET / HTTP") == (408, "request_too_slow")

    run(main())


def test_the_rest_of_a_body_that_was_answered_already_has_a_deadline() -> None:
    async def main() -> None:
        async with served(pieces, SOON) as client:
            client.writer.write(b"POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n")
            await client.reader.readuntil(b"0\r\n\r\n")
            assert client.shared.census.counts()["stranger"] == 1
            await client.shared.census.empty()

    run(main())


def test_a_trailer_does_not_pass_for_a_header() -> None:
    async def main() -> None:
        async with served(echo) as client:
            body = b"2\r\nhi\r\n0\r\nauthorization: Bearer x\r\n\r\n"
            request = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n" + body
            _, _, answer = await client.answer(request)
            seen = msgspec.json.decode(answer)
            assert seen["body"] == "hi"
            assert seen["headers"] == ["host", "transfer-encoding"]

    run(main())


# What is no HTTP.

_TOKENS = st.sampled_from(
    [
        *(b"GET", b"POST", b" ", b"/", b"/v1/models", b"*", b"http://x/", b"HTTP/1.1", b"HTTP/1.0"),
        *(b"\r\n", b"\n", b"\r", b":", b"\t", b"\x00", b"\xff", b"host: x\r\n", b"a: b\r\n"),
        *(b"content-length: 3\r\n", b"content-length: -1\r\n", b"content-length: 99999\r\n"),
        *(b"transfer-encoding: chunked\r\n", b"transfer-encoding: gzip, chunked\r\n", b"3\r\nabc"),
        *(b"connection: upgrade\r\n", b"upgrade: h2c\r\n", b"upgrade: websocket\r\n", b"0\r\n\r\n"),
        *(b"expect: 100-continue\r\n", b"GET / HTTP/1.1\r\n", b"POST / HTTP/1.1\r\nhost: x\r\n"),
    ]
)
_ODD = st.lists(_TOKENS | st.binary(max_size=12), max_size=14).map(b"".join)


@given(sent=_ODD, cut=st.integers(min_value=0, max_value=60))
@settings(max_examples=150)
def test_whatever_is_sent_is_answered_with_no_defect(sent: bytes, cut: int) -> None:
    async def main() -> None:
        async with served(echo, SOON) as client:
            client.writer.write(sent[:cut])
            await asyncio.sleep(0)
            client.writer.write(sent[cut:])
            client.writer.write_eof()
            answers = await client.reader.read()
            statuses = re.findall(rb"HTTP/1\.1 (\d+)", answers)
            assert not [status for status in statuses if status >= b"500"]

    async def ended() -> None:
        try:
            await main()
        except ConnectionError:
            return

    run(ended())


@pytest.mark.parametrize(
    "header",
    [
        b"content-length: 3\r\ntransfer-encoding: chunked\r\n",
        b"content-length: 3\r\ncontent-length: 4\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"transfer-encoding: xchunked\r\n",
        b"content-length : 3\r\n",
        b"content-length: +3\r\n",
        b"x: a\r\n b\r\n",
        b"x: a\x00b\r\n",
    ],
)
def test_what_two_servers_could_read_in_two_ways_is_refused(header: bytes) -> None:
    async def main() -> None:
        async with served(echo) as client:
            smuggled = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
            request = b"POST / HTTP/1.1\r\nhost: x\r\n" + header + b"\r\n" + smuggled
            assert await client.code(request) == (400, "invalid_request")

    run(main())
