"""An HTTP connection: what it serves, and what the application may do to it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from starlette.types import Receive, Scope, Send
from tests.unit.coordinator.server.conftest import GET, echo, pieces, post, run, served

from tandem.coordinator.config import ConnectionLimits
from tandem.coordinator.server.http import WRITE_BUFFER_BYTES
from tandem.coordinator.server.peer import peer_of

# Slow readers.


def test_a_reader_who_reads_nothing_is_cut_off_and_nothing_is_kept_for_it() -> None:
    waiting: list[int] = []
    ended = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        piece = {"type": "http.response.body", "body": b"x" * WRITE_BUFFER_BYTES, "more_body": True}
        peer = peer_of(scope)
        while not waiting:
            writing = asyncio.ensure_future(send(piece))
            await asyncio.sleep(0)
            if not writing.done():
                waiting.append(peer.unsent_bytes)
                peer.abort()
            await writing
        await send({"type": "http.response.body"})
        ended.set()

    async def main() -> None:
        async with served(app) as client:
            client.writer.write(GET)
            await ended.wait()

    run(main())
    assert 0 < waiting[0] <= 3 * WRITE_BUFFER_BYTES


def test_an_answer_that_nobody_reads_to_its_end_is_not_waited_for() -> None:
    size = 32 * 1024 * 1024

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * size})

    async def main() -> None:
        async with served(app) as client:
            client.writer.write(GET)
            await client.reader.readexactly(1)
            census = client.shared.census
            census.abort_stuck(0.0, 10.0)
            assert len(census) == 1
            census.abort_stuck(10.5, 10.0)
            assert len(census) == 0
            assert len(await client.reader.read()) < size

    run(main())


def test_without_a_server_of_ours_nothing_is_done_to_the_connection() -> None:
    peer_of({"type": "http"}).abort()


# Protocols that are offered, and older ones.


@pytest.mark.parametrize("offer", [b"h2c", b"h2c, websocket", b"TLS/1.0", b"x"])
@pytest.mark.parametrize("cut", [None, 20, -30, -4])
def test_the_offer_of_another_protocol_is_passed_over(offer: bytes, cut: int | None) -> None:
    async def main() -> None:
        async with served(echo) as client:
            offered = [b"connection: Upgrade, HTTP2-Settings", b"upgrade: " + offer]
            request = post(b"the body", *offered, b"http2-settings: AAEAAEAA")
            if cut is not None:
                client.writer.write(request[:cut])
                await client.writer.drain()
                request = request[cut:]
            status, _, answer = await client.answer(request)
            assert status == 200
            assert msgspec.json.decode(answer)["body"] == "the body"
            _, _, answer = await client.answer(post(b"another"))
            assert msgspec.json.decode(answer)["body"] == "another"

    run(main())


def test_connect_is_refused() -> None:
    async def main() -> None:
        async with served(echo) as client:
            request = b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n"
            assert await client.code(request) == (405, "method_not_allowed")

    run(main())


def test_an_answer_over_http_1_0_ends_with_the_connection() -> None:
    async def main() -> None:
        async with served(pieces) as client:
            status, headers, body = await client.answer(post(b"x", version=b"1.0"))
            assert (status, body) == (200, b"one two three")
            assert "transfer-encoding" not in headers
            assert headers["connection"] == "close"

    run(main())


def test_an_answer_of_known_length_over_http_1_0_says_it() -> None:
    async def main() -> None:
        async with served(echo) as client:
            _, headers, body = await client.answer(post(b"x", version=b"1.0"))
            assert int(headers["content-length"]) == len(body)
            assert await client.reader.read() == b""

    run(main())


@pytest.mark.parametrize(("target", "path"), [(b"http://x/a%20b?c", "/a b"), (b"http://x", "/")])
def test_absolute_targets(target: bytes, path: str) -> None:
    async def main() -> None:
        async with served(echo) as client:
            _, _, answer = await client.answer(b"GET " + target + b" HTTP/1.1\r\nhost: x\r\n\r\n")
            assert msgspec.json.decode(answer)["path"] == path

    run(main())


def test_a_body_is_asked_for_with_100_continue() -> None:
    async def main() -> None:
        async with served(echo) as client:
            request = post(b"body", b"expect: 100-continue")
            client.writer.write(request[:-4])
            assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            status, _, answer = await client.answer(b"body")
            assert status == 200
            assert msgspec.json.decode(answer)["body"] == "body"

    run(main())


def test_a_body_that_nobody_asked_for_is_not_waited_for() -> None:
    """What comes next would be taken for it."""

    async def main() -> None:
        async with served(pieces) as client:
            client.writer.write(post(b"body", b"expect: 100-continue")[:-4])
            answer = await client.reader.read()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" in answer

    run(main())


# Several requests on one connection.


def test_pipelined_requests_are_answered_in_order() -> None:
    async def main() -> None:
        async with served(echo) as client:
            client.writer.write(b"".join(post(b"%d" % number) for number in range(20)))
            for number in range(20):
                _, _, answer = await client.answer(b"")
                assert msgspec.json.decode(answer)["body"] == str(number)

    run(main())


def test_who_sends_too_many_requests_ahead_is_cut_off() -> None:
    async def main() -> None:
        async with served(echo) as client:
            client.writer.write(GET * (ConnectionLimits().max_pipelined + 2))
            await client.reader.read()
            assert client.events == ["too_many_pipelined"]

    async def ended() -> None:
        try:
            await main()
        except ConnectionError:
            return

    run(ended())


def test_garbage_after_a_request_waits_for_its_answer() -> None:
    async def main() -> None:
        async with served(echo) as client:
            status, _, answer = await client.answer(post(b"good") + b"\x00garbage\r\n\r\n")
            assert status == 200
            assert msgspec.json.decode(answer)["body"] == "good"
            assert await client.reader.read() == b""

    run(main())
