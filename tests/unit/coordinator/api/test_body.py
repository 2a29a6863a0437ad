"""A request's body within its bounds, and the consumer who leaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from tandem.coordinator.api.body import ConsumerGone, IncomingBody, while_connected
from tandem.coordinator.api.held import HeldBytes
from tandem.coordinator.api.pace import Pacer
from tandem.errors import (
    InvalidRequest,
    Overloaded,
    RateLimited,
    RequestTooLarge,
    RequestTooSlow,
    TandemError,
)

GONE = {"type": "http.disconnect"}


class Pieces:
    """ASGI's `receive`: these events, and then silence."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self.waiting = list(events)

    async def __call__(self) -> dict[str, Any]:
        if not self.waiting:
            await asyncio.Event().wait()
        return self.waiting.pop(0)


def piece(body: bytes, *, more: bool = True) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


def read(
    *events: dict[str, Any],
    max_bytes: int = 4,
    timeout_s: float = 30.0,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    most: int = 1 << 20,
    most_each: int = 1 << 20,
) -> bytes:
    """Reads a body; heard out, when it is refused."""

    async def main() -> bytes:
        incoming = IncomingBody(
            {"headers": headers},
            Pieces(*events),
            Pacer(),
            max_bytes=max_bytes,
            timeout_s=timeout_s,
        )
        held = HeldBytes(most, most_each)
        try:
            with held.hold("k") as mine:
                body = bytes(await incoming.read(mine))
                assert held.all == len(body)
        except TandemError:
            assert held.all == 0
            await incoming.discard()
            raise
        return body

    return asyncio.run(main())


def left(*events: dict[str, Any], headers: tuple[tuple[bytes, bytes], ...] = ()) -> int:
    """How many events wait after a body was discarded whose like is limited to 4 bytes."""
    receive = Pieces(*events)

    async def main() -> None:
        scope = {"headers": headers}
        await IncomingBody(scope, receive, Pacer(), max_bytes=4, timeout_s=30.0).discard()

    asyncio.run(main())
    return len(receive.waiting)


def test_a_body_comes_in_pieces() -> None:
    assert read(piece(b"ab"), piece(b""), piece(b"cd", more=False)) == b"abcd"


def test_whoever_sends_too_much_is_heard_out_first() -> None:
    """So that the reason is read, and not a reset connection."""
    with pytest.raises(RequestTooLarge):
        read(piece(b"abc"), piece(b"de"), piece(b"f", more=False))


def test_whoever_sends_far_too_much_is_not() -> None:
    with pytest.raises(RequestTooLarge):
        read(piece(b"x" * 65))  # and more would come


def test_what_is_announced_too_large_is_refused_at_once() -> None:
    with pytest.raises(RequestTooLarge):
        read(piece(b"", more=False), headers=((b"content-length", b"5"),))


@pytest.mark.parametrize("announced", [b"", b"x", b"-1", b"9" * 5000, "٣".encode()])
def test_an_odd_length_is_none(announced: bytes) -> None:
    assert read(piece(b"ab", more=False), headers=((b"content-length", announced),)) == b"ab"


@pytest.mark.parametrize("headers", [(), ((b"content-length", b"4"),)])
def test_a_body_without_room_is_refused(headers: tuple[tuple[bytes, bytes], ...]) -> None:
    with pytest.raises(RateLimited, match="your requests under way"):
        read(piece(b"ab"), piece(b"cd", more=False), most_each=3, headers=headers)
    with pytest.raises(Overloaded, match="all requests under way"):
        read(piece(b"ab"), piece(b"cd", more=False), most=3, headers=headers)


def test_whoever_is_refused_is_heard_out_within_bounds() -> None:
    assert left(piece(b"ab"), piece(b"cd" * 5), piece(b"", more=False), piece(b"next")) == 1
    assert left(piece(b"x" * 65), piece(b"more")) == 1


def test_whoever_waits_to_be_asked_for_a_body_is_not_asked() -> None:
    """A body that is refused need not be sent at all."""
    assert left(piece(b"ab", more=False), headers=((b"expect", b"100-continue"),)) == 1


def test_pieces_of_large_bodies_come_a_few_a_round() -> None:
    """Reading hundreds of them in every round of the loop would hold up all that is under way."""
    size, count = 256 * 1024, 20
    read_at: list[int] = []
    rounds = 0

    async def one(pacer: Pacer) -> None:
        events = [piece(b"x" * size) for _ in range(4)] + [piece(b"", more=False)]
        receive = Pieces(*events)

        async def noting() -> dict[str, Any]:
            if len(receive.waiting) < len(events):  # the first is free
                read_at.append(rounds)
            return await receive()

        held = HeldBytes(1 << 30, 1 << 30).hold("k")
        body = IncomingBody({"headers": ()}, noting, pacer, max_bytes=1 << 30, timeout_s=60.0)
        assert len(await body.read(held)) == 4 * size

    async def main() -> None:
        nonlocal rounds
        pacer = Pacer()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(count):
                tasks.create_task(one(pacer))
            while len(read_at) < 4 * count:
                rounds += 1
                await asyncio.sleep(0)

    asyncio.run(main())
    assert max(Counter(read_at).values()) <= 2


def test_a_body_that_does_not_come_is_refused() -> None:
    with pytest.raises(RequestTooSlow, match="did not come"):
        read(piece(b"a"), timeout_s=0.0)


def test_whoever_leaves_needs_no_answer() -> None:
    with pytest.raises(ConsumerGone):
        read(piece(b"a"), GONE)
    assert left(piece(b"a"), GONE) == 0


def test_work_ends_when_the_consumer_leaves() -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    with pytest.raises(ConsumerGone):
        asyncio.run(while_connected(Pieces(piece(b""), GONE), work))
    assert ended == ["cancelled"]


def test_works_own_error_is_the_answers() -> None:
    async def work() -> None:
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        asyncio.run(while_connected(Pieces(), work))


def test_work_that_is_done_is_done() -> None:
    done: list[int] = []

    async def work() -> None:
        done.append(1)

    asyncio.run(while_connected(Pieces(), work))
    assert done == [1]
