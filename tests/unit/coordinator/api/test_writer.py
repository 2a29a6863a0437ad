"""How an answer is written: silence is filled, and whoever takes nothing is given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, cast

import pytest
from tests.simulation.virtual_time import run

from tandem.coordinator.api.body import ConsumerGone, while_connected
from tandem.coordinator.api.http import SSE_HEADERS
from tandem.coordinator.api.writer import AnswerWriter
from tandem.coordinator.server.peer import Peer

COMMENT = b": keep-alive\n\n"
KIB = 1024


class TransportPlayed:
    """What a `Peer` knows of a connection."""

    def __init__(self) -> None:
        self.unsent = 0
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True


class Consumer:
    """Takes what is sent at its own pace: `pause_s` for each message, or nothing any more."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.transport = TransportPlayed()
        self.pause_s = pause_s
        self.stops_after: int | None = None
        self.came: list[tuple[float, bytes]] = []
        self.statuses: list[MutableMapping[str, Any]] = []
        self.ended = False
        peer = Peer()
        peer.attach(cast("asyncio.Transport", self.transport))
        self.writer = AnswerWriter(self.send, peer, keep_alive_s=10.0, stalls_after_s=30.0)
        self.began = asyncio.get_running_loop().time()

    @property
    def now(self) -> float:
        return round(asyncio.get_running_loop().time() - self.began, 3)

    @property
    def body(self) -> bytes:
        return b"".join(piece for _, piece in self.came)

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if self.stops_after is not None and len(self.came) >= self.stops_after:
            await asyncio.Event().wait()
        await asyncio.sleep(self.pause_s)
        assert not self.ended, "nothing comes after the end"
        if message["type"] == "http.response.start":
            self.statuses.append(message)
            return
        assert self.statuses
        self.came.append((self.now, message["body"]))
        self.ended = not message["more_body"]

    async def receive(self) -> dict[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError


def play(work: Callable[[Consumer], Awaitable[None]], pause_s: float = 0.0) -> Consumer:
    async def main() -> Consumer:
        consumer = Consumer(pause_s)
        writer = consumer.writer
        await while_connected(consumer.receive, lambda: work(consumer), writer.watch())
        return consumer

    return run(main())


def test_silence_before_the_first_token_begins_the_stream_and_is_filled() -> None:
    async def work(consumer: Consumer) -> None:
        consumer.writer.stream()
        await asyncio.sleep(9.0)
        assert not consumer.writer.started
        await asyncio.sleep(26.0)
        await consumer.writer.write(b"token", last=True)

    consumer = play(work)
    assert consumer.came == [(10.0, COMMENT), (20.0, COMMENT), (30.0, COMMENT), (35.0, b"token")]
    (status,) = consumer.statuses
    assert status["headers"] == SSE_HEADERS


def test_only_silence_is_filled_in_mid_stream_too() -> None:
    async def work(consumer: Consumer) -> None:
        consumer.writer.stream()
        await consumer.writer.open()
        for silence_s in (3.0, 9.0, 12.0, 9.9):
            await asyncio.sleep(silence_s)
            await consumer.writer.write(b"token")
        await consumer.writer.write(b"end", last=True)

    assert play(work).came == [
        (3.0, b"token"),
        (12.0, b"token"),
        (22.0, COMMENT),
        (24.0, b"token"),
        (33.9, b"token"),
        (33.9, b"end"),
    ]


def test_an_answer_at_once_has_no_comments() -> None:
    async def work(consumer: Consumer) -> None:
        await asyncio.sleep(100.0)
        await consumer.writer.whole([(b"a", b"b")], b"body")

    consumer = play(work)
    assert consumer.came == [(100.0, b"body")]
    assert consumer.statuses[0]["headers"] == [(b"a", b"b")]


@pytest.mark.parametrize("size", [0, 1, 64 * KIB, 64 * KIB + 1, 1000 * KIB])
def test_a_large_answer_goes_in_slices(size: int) -> None:
    async def work(consumer: Consumer) -> None:
        await consumer.writer.whole([], b"x" * size)

    consumer = play(work)
    assert len(consumer.body) == size
    assert consumer.ended
    assert max(len(piece) for _, piece in consumer.came) <= 64 * KIB


def test_whoever_takes_nothing_is_given_up() -> None:
    ended_at: list[float] = []
    consumers: list[Consumer] = []

    async def work(consumer: Consumer) -> None:
        consumers.append(consumer)
        consumer.writer.stream()
        consumer.stops_after = 2
        try:
            while True:
                await consumer.writer.write(b"token")
        finally:
            ended_at.append(consumer.now)

    with pytest.raises(ConsumerGone, match="took nothing for 30 s"):
        play(work)
    assert consumers[0].transport.aborted
    assert len(consumers[0].came) == 2
    assert 30.0 <= ended_at[0] <= 45.0


def test_whoever_takes_no_comment_is_given_up_too() -> None:
    consumers: list[Consumer] = []

    async def work(consumer: Consumer) -> None:
        consumers.append(consumer)
        consumer.writer.stream()
        await consumer.writer.write(b"token")
        consumer.stops_after = 1
        await asyncio.Event().wait()

    with pytest.raises(ConsumerGone):
        play(work)
    assert consumers[0].transport.aborted


def test_whoever_reads_slowly_is_waited_for() -> None:
    """20 s for each slice, longer than all of it may take anybody who takes nothing."""

    async def work(consumer: Consumer) -> None:
        await consumer.writer.whole([], b"x" * 640 * KIB)

    consumer = play(work, pause_s=20.0)
    assert len(consumer.body) == 640 * KIB
    assert not consumer.transport.aborted


def test_one_large_slice_that_leaves_bit_by_bit_is_waited_for() -> None:
    async def work(consumer: Consumer) -> None:
        async def drain() -> None:
            for left in range(10, 0, -1):
                consumer.transport.unsent = left
                await asyncio.sleep(20.0)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(drain())
            await consumer.writer.whole([], b"x")

    assert play(work, pause_s=90.0).ended


def test_a_comment_under_way_is_not_mixed_with_a_token() -> None:
    """Each takes a second to be written: the comment begins at 10 s, the token half a second on."""

    async def work(consumer: Consumer) -> None:
        consumer.writer.stream()
        await asyncio.sleep(10.5)
        await consumer.writer.write(b"token", last=True)

    consumer = play(work, pause_s=1.0)
    assert [piece for _, piece in consumer.came] == [COMMENT, b"token"]
    assert len(consumer.statuses) == 1
