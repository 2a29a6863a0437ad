"""A WebSocket of somebody who is not known yet."""

from __future__ import annotations

import asyncio
import gc

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect
from tests.unit.coordinator.server.conftest import echo, run, served

from tandem.coordinator.server.http import HttpConnection
from tandem.coordinator.server.websocket import WebSocketConnection

UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
PING = b"\x89\xfd\x00\x00\x00\x00" + b"x" * 125
TEXT = b"\x81\x82\x00\x00\x00\x00hi"


async def accept(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers each text with itself."""
    websocket = WebSocket(scope, receive, send)
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        return


def test_what_is_sent_right_behind_the_handshake_is_read() -> None:
    async def main() -> None:
        async with served(accept) as client:
            client.writer.write(UPGRADE + TEXT)
            assert b"101 Switching Protocols" in await client.reader.readuntil(b"\r\n\r\n")
            assert await client.reader.readexactly(4) == b"\x81\x02hi"

    run(main())


def test_who_pings_and_never_reads_is_cut_off() -> None:
    async def main() -> None:
        async with served(accept) as client:
            client.writer.write(UPGRADE)
            await client.reader.readuntil(b"\r\n\r\n")
            client.reader.feed_data(b"x" * 256 * 1024)  # more than it would hold: it reads no more
            try:
                while len(client.shared.census):
                    client.writer.write(PING * 1000)
                    await client.writer.drain()
            except ConnectionError:
                return

    run(main())


def test_no_websocket_begins_while_a_request_is_being_answered() -> None:
    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def main() -> None:
        async with served(slow) as client:
            client.writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" + UPGRADE)
            client.writer.write_eof()
            assert await client.reader.read() == b""
            assert client.events == ["malformed_request"]

    run(main())


@pytest.mark.parametrize(
    ("offer", "answer"),
    [
        (
            UPGRADE.replace(b"GET", b"POST").replace(
                b"\r\n\r\n", b"\r\ncontent-length: 2\r\n\r\nhi"
            ),
            200,
        ),
        (UPGRADE.replace(b"\r\n\r\n", b"\r\ncontent-length: 2\r\n\r\nhi"), 200),
        (UPGRADE.replace(b"GET", b"POST"), 200),
    ],
    ids=["a-post", "a-body", "no-body"],
)
def test_an_offer_that_is_no_handshake_is_passed_over(offer: bytes, answer: int) -> None:
    async def main() -> None:
        async with served(echo) as client:
            assert (await client.answer(offer))[0] == answer
            assert client.events == []

    run(main())


@pytest.mark.parametrize(
    "headers", [b"x: " + b"y" * 20_000, b"\r\n".join(b"x: y" for _ in range(200))]
)
def test_a_handshake_that_cannot_be_read_is_refused(headers: bytes) -> None:
    async def main() -> None:
        async with served(accept) as client:
            offer = UPGRADE.replace(b"\r\n\r\n", b"\r\n" + headers + b"\r\n\r\n")
            assert await client.code(offer) == (400, "invalid_request")
            assert client.events == ["malformed_request"]

    run(main())


def test_an_application_that_refuses_a_websocket_is_no_defect(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("no", 403)(scope, receive, send)

    async def main() -> None:
        async with served(refuse) as client:
            assert (await client.answer(UPGRADE))[0] == 403
            assert await client.reader.read() == b""

    run(main())
    assert caplog.messages == []


def test_nothing_of_a_connection_is_left_to_the_search_for_garbage() -> None:
    async def main() -> None:
        async with served(accept) as client:
            client.writer.write(UPGRADE + TEXT)
            await client.reader.readuntil(b"hi")
        gc.collect()
        gc.disable()
        try:
            async with served(accept) as client:
                client.writer.write(UPGRADE + TEXT)
                await client.reader.readuntil(b"hi")
            kinds = HttpConnection, WebSocketConnection
            while any(type(each) in kinds for each in gc.get_objects()):  # noqa: ASYNC110
                await asyncio.sleep(0)
        finally:
            gc.enable()

    run(main())
