"""A request's body within its bounds, and the consumer who leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tandem.coordinator.api.body import ConsumerGone, read_body, while_connected
from tandem.errors import InvalidRequest, RequestTooLarge

GONE = {"type": "http.disconnect"}


def pieces(*events: dict[str, Any]) -> Callable[[], Awaitable[dict[str, Any]]]:
    """ASGI's `receive`: these events, and then silence."""
    waiting = list(events)

    async def receive() -> dict[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return receive


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def read(*events: dict[str, Any], max_bytes: int = 4, timeout_s: float = 30.0) -> bytes:
    return bytes(asyncio.run(read_body(pieces(*events), max_bytes=max_bytes, timeout_s=timeout_s)))


def test_a_body_comes_in_pieces() -> None:
    assert read(piece(b"ab"), piece(b""), piece(b"cd", more=False)) == b"abcd"


def test_whoever_sends_too_much_is_heard_out_first() -> None:
    """So that the reason is read, and not a reset connection."""
    with pytest.raises(RequestTooLarge):
        read(piece(b"abc"), piece(b"de"), piece(b"f", more=False))


def test_whoever_sends_far_too_much_is_not() -> None:
    with pytest.raises(RequestTooLarge):
        read(piece(b"x" * 65))  # and more would come


def test_a_body_that_does_not_come_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="did not come"):
        read(piece(b"a"), timeout_s=0.0)


def test_whoever_leaves_needs_no_answer() -> None:
    with pytest.raises(ConsumerGone):
        read(piece(b"a"), GONE)


def test_work_ends_when_the_consumer_leaves() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    with pytest.raises(ConsumerGone):
        asyncio.run(while_connected(pieces(piece(b""), GONE), work))
    assert ended == ["cancelled"]


def test_works_own_error_is_the_answers() -> None:
    async def work() -> None:
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        asyncio.run(while_connected(pieces(), work))


def test_work_that_is_done_is_done() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    asyncio.run(while_connected(pieces(), work))
    assert done == [1]
