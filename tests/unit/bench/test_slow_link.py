"""A port that passes on what comes, later."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tandem.bench import delayed_port

TIMEOUT_S = 20.0


@contextmanager
def echoing() -> Iterator[int]:
    """A port that says what it hears, until the other side has ended."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while piece := connection.recv(65536):
                    connection.sendall(piece)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()


def test_all_comes_back_in_its_order() -> None:
    data = bytes(range(256)) * 4096
    with echoing() as port, delayed_port("127.0.0.1", port, 0.001) as slow:
        with socket.create_connection(("127.0.0.1", slow), TIMEOUT_S) as connection:
            sender = threading.Thread(target=connection.sendall, args=(data,))
            sender.start()
            found = b""
            while len(found) < len(data):
                found += connection.recv(65536)
            sender.join(TIMEOUT_S)
        assert found == data


def test_every_piece_is_as_late_as_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    delays = []
    call_later = asyncio.BaseEventLoop.call_later

    def noted(loop: asyncio.BaseEventLoop, delay: float, *rest: object) -> object:
        delays.append(delay)
        return call_later(loop, 0.0, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_later", noted)
    with (
        echoing() as port,
        delayed_port("127.0.0.1", port, 77.0) as slow,
        socket.create_connection(("127.0.0.1", slow), TIMEOUT_S) as connection,
    ):
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
    assert delays[:2] == [77.0, 77.0]


def test_a_port_behind_which_nobody_is_ends_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with (
        delayed_port("127.0.0.1", port, 0.0) as slow,
        socket.create_connection(("127.0.0.1", slow), TIMEOUT_S) as connection,
    ):
        assert connection.recv(1) == b""
