"""The port, as strangers find it: few of them, slow ones, and none that shuts out who has a key."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from pathlib import Path

import httpx2
import msgspec
import pytest
from tests.integration.coordinator.conftest import (
    TIMEOUT_S,
    PlayedProvider,
    Running,
    provider_socket,
    running,
)
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tandem import protocol
from tandem.coordinator.config import ConnectionLimits


def dial(coordinator: Running) -> socket.socket:
    return socket.create_connection(("127.0.0.1", coordinator.port), timeout=TIMEOUT_S)


def test_a_thousand_strangers_shut_nobody_out(coordinator: Running, http: httpx2.Client) -> None:
    """More than one address may have: those who wait longest make room."""
    half = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-a: "
    strangers = []
    for number in range(1100):
        strangers.append(dial(coordinator))
        if number % 2:
            strangers[-1].sendall(half)
    assert http.get("/v1/models").status_code == 200
    metrics = http.get("/metrics").text
    assert 'tandem_connection_events_total{event="stranger_shed"}' in metrics
    for stranger in strangers:
        stranger.close()


def test_a_provider_gets_in_among_strangers(coordinator: Running) -> None:
    async def main() -> None:
        strangers = [dial(coordinator) for _ in range(1100)]
        async with asyncio.timeout(TIMEOUT_S), provider_socket(coordinator) as link:
            provider = PlayedProvider(link)
            assert isinstance(await provider.join(), protocol.Welcome)
            for stranger in strangers:
                stranger.close()

    asyncio.run(main())


def test_a_stranger_sends_small_messages_only(coordinator: Running) -> None:
    async def main() -> None:
        async with asyncio.timeout(TIMEOUT_S), provider_socket(coordinator) as link:
            await link.send(b"\x80" * (64 * 1024 + 1))
            with pytest.raises(ConnectionClosed) as closed:
                await link.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009

    asyncio.run(main())


@pytest.mark.parametrize("fragment", [b"\x80" * 1024, b""], ids=["small", "empty"])
def test_a_message_in_many_fragments_is_no_way_around(
    coordinator: Running, fragment: bytes
) -> None:
    async def main() -> None:
        async with asyncio.timeout(TIMEOUT_S), provider_socket(coordinator) as link:
            with suppress(ConnectionClosed):
                await link.send(fragment for _ in range(10_000))
            with pytest.raises(ConnectionClosed):  # and no word about what the message says
                await link.recv()

    asyncio.run(main())


def test_a_provider_may_send_large_messages(coordinator: Running) -> None:
    async def main() -> None:
        async with asyncio.timeout(TIMEOUT_S), provider_socket(coordinator) as link:
            provider = PlayedProvider(link)
            await provider.welcome()
            unknown = protocol.RequestId("nobody's")
            await provider.send(protocol.Reply(unknown, b"x" * (protocol.MAX_REPLY_BYTES // 2)))
            await provider.beat()
            pong = await link.ping()
            await pong

    asyncio.run(main())


def test_a_web_page_is_no_provider(coordinator: Running) -> None:
    async def main() -> None:
        url = f"ws://127.0.0.1:{coordinator.port}/v1/providers/connect"
        with pytest.raises(InvalidStatus) as refused:
            async with connect(url, origin="http://evil.example"):  # type: ignore[arg-type]
                pass
        response = refused.value.response
        assert response.status_code == 403
        assert msgspec.json.decode(response.body)["error"]["code"] == "origin_refused"

    asyncio.run(main())


def test_who_asks_nothing_is_let_go(tmp_path: Path) -> None:
    with running(tmp_path, connections=ConnectionLimits(header_timeout_s=0.1)) as coordinator:
        strangers = [dial(coordinator) for _ in range(50)]
        for stranger in strangers:
            with stranger:
                assert stranger.recv(1) == b""


def test_stops_of_the_event_loop_are_told(coordinator: Running, http: httpx2.Client) -> None:
    assert http.get("/v1/status").json()["longest_stop_s"] >= 0.0
    metrics = http.get("/metrics").text
    assert "tandem_event_loop_longest_stop_seconds" in metrics
    assert "tandem_event_loop_stop_seconds_count" in metrics
