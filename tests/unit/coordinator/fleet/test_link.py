"""A provider's link: what is queued for it, who waits there, and how it is lost."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from tests.support.registered import RECIPIENT, SEALING

from tandem.coordinator.fleet.link import ProviderLink
from tandem.errors import Overloaded, ProtocolError, ProviderLost, TandemError
from tandem.protocol import (
    Cancel,
    Grant,
    ModelName,
    NextKey,
    Reply,
    Request,
    RequestId,
    ToProvider,
    Unreadable,
)
from tandem.security import request_context

NONCE = b"n" * 32
ONE, OTHER = RequestId("one"), RequestId("other")


@dataclass
class Waiting:
    """Whoever waits for answers: it has ended after so many, or when it failed."""

    answers: int = 1
    taken: list[bytes] = field(default_factory=list)
    error: TandemError | None = None

    @property
    def ended(self) -> bool:
        return self.error is not None or len(self.taken) == self.answers

    def take(self, sealed: bytes) -> None:
        self.taken.append(sealed)

    def fail(self, error: TandemError) -> None:
        self.error = error


def ask(link: ProviderLink, request_id: RequestId, waiting: Waiting) -> None:
    model = ModelName("m")
    link.request(request_id, b"content", waiting, model=model, deadline_s=9.0, window=4)


async def sent(link: ProviderLink) -> ToProvider:
    return await asyncio.wait_for(link.next_outgoing(), 10.0)


def make_link(max_outgoing: int = 8) -> ProviderLink:
    return ProviderLink(RECIPIENT, NONCE, max_outgoing)


def test_requests_are_numbered_and_sealed_to_their_place() -> None:
    async def main() -> None:
        link = make_link()
        for number, request_id in enumerate((ONE, OTHER)):
            ask(link, request_id, Waiting())
            message = await sent(link)
            assert isinstance(message, Request)
            assert (message.number, message.request_id) == (number, request_id)
            assert (message.deadline_s, message.window) == (9.0, 4)
            context = request_context(NONCE, number, request_id)
            assert SEALING.open(message.sealed, context) == b"content"

    asyncio.run(main())


def test_answers_go_to_who_asked_until_it_has_ended() -> None:
    link, one, other = make_link(), Waiting(), Waiting(answers=2)
    ask(link, ONE, one)
    ask(link, OTHER, other)
    for answer in (b"1", b"2", b"3"):
        link.deliver(Reply(OTHER, answer))
    link.deliver(Reply(ONE, b"4"))
    link.deliver(Reply(RequestId("cancelled"), b"5"))
    assert (one.taken, other.taken) == ([b"4"], [b"1", b"2"])


def test_a_request_that_cannot_be_opened_breaks_the_protocol() -> None:
    link = make_link()
    ask(link, ONE, Waiting())
    with pytest.raises(ProtocolError, match="could not open"):
        link.deliver(Unreadable(ONE))


def test_one_that_is_forgotten_is_cancelled_once() -> None:
    async def main() -> None:
        link, waiting = make_link(), Waiting()
        ask(link, ONE, waiting)
        await sent(link)
        link.forget(ONE, cancel=True)
        link.forget(ONE, cancel=True)
        link.send(Grant(OTHER, 1))
        assert await sent(link) == Cancel(ONE)
        assert await sent(link) == Grant(OTHER, 1)
        link.deliver(Reply(ONE, b"late"))
        assert waiting.taken == []

    asyncio.run(main())


def test_a_provider_that_reads_nothing_gets_no_request_and_is_lost() -> None:
    async def main() -> None:
        link, waiting = make_link(max_outgoing=1), Waiting()
        ask(link, ONE, waiting)
        with pytest.raises(Overloaded):
            ask(link, OTHER, Waiting())
        link.send(Grant(ONE, 1))
        assert waiting.error is not None
        with pytest.raises(ProviderLost):
            ask(link, OTHER, Waiting())
        with pytest.raises(ProviderLost):
            await sent(link)

    asyncio.run(main())


def test_a_link_that_is_lost_ends_what_is_under_way_for_its_first_reason() -> None:
    link, waiting = make_link(), Waiting()
    ask(link, ONE, waiting)
    first = ProviderLost("first")
    link.lose(first)
    link.lose(ProviderLost("second"))
    assert waiting.error is first
    with pytest.raises(ProviderLost, match="first"):
        ask(link, OTHER, Waiting())


def test_an_abandoned_link_lives_on_and_cancels_what_was_under_way() -> None:
    async def main() -> None:
        link, waiting = make_link(), Waiting()
        ask(link, ONE, waiting)
        link.abandon(ProviderLost("it hangs"))
        assert waiting.error is not None
        ask(link, OTHER, Waiting())
        kinds = [type(await sent(link)) for _ in range(3)]
        assert kinds == [Request, Cancel, Request]

    asyncio.run(main())


def test_the_next_requests_key_is_announced_while_nothing_waits() -> None:
    async def main() -> None:
        link = make_link()
        link.announce()
        link.announce()
        assert isinstance(await sent(link), NextKey)
        link.send(Grant(ONE, 1))
        link.announce()
        assert await sent(link) == Grant(ONE, 1)
        ask(link, ONE, Waiting())  # uses the key that was announced
        assert isinstance(await sent(link), Request)
        link.announce()
        assert isinstance(await sent(link), NextKey)

    asyncio.run(main())


def test_a_link_that_is_lost_wakes_whoever_writes_to_it() -> None:
    async def main() -> None:
        link = make_link()
        writing = asyncio.create_task(link.next_outgoing())
        await asyncio.sleep(0)
        link.lose(ProviderLost("removed"))
        with pytest.raises(ProviderLost, match="removed"):
            await asyncio.wait_for(writing, 10.0)

    asyncio.run(main())
