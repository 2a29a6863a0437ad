"""One request at one provider: its pieces, its window, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.support.registered import RECIPIENT
from tests.support.requests_played import LinkPlayed

from tandem.coordinator.fleet.link import ProviderLink
from tandem.coordinator.requests.answer_rules import Expected
from tandem.coordinator.requests.relay import RequestStream, open_stream
from tandem.errors import (
    AnswerNotRead,
    ContextLengthExceeded,
    ProtocolError,
    ProviderLost,
    RateLimited,
)
from tandem.protocol import (
    Chunk,
    Delta,
    ErrorInfo,
    Failed,
    Finished,
    FinishReason,
    Generate,
    ModelName,
    Sampling,
    TextPrompt,
    Timings,
    Usage,
)

Scenario = Callable[[RequestStream, LinkPlayed], Awaitable[None]]
USAGE = Usage(3, 3, 1)


class Room:
    """For what waits of an answer."""

    def __init__(self, most: int = 1 << 30) -> None:
        self.most = most
        self.kept = 0

    def keep(self, more: int) -> None:
        if more > 0 and self.kept + more > self.most:
            raise RateLimited("it is full")
        self.kept += more


def play(
    scenario: Scenario, unfinished: tuple[int, ...] = (0, 1), room: Room | None = None
) -> None:
    """Two choices of one prompt."""

    async def main() -> None:
        link = ProviderLink(RECIPIENT, b"", 64)
        content = Generate(b"", [TextPrompt("hi")], 2, Sampling())
        stream = open_stream(
            link,
            ModelName("m"),
            content,
            expected=Expected(dict.fromkeys(unfinished, 8), 0, 100, logprobs=True),
            deadline_s=9.0,
            window=4,
            keep=(room or Room()).keep,
        )
        played = LinkPlayed(link)
        await played.generate()
        await scenario(stream, played)

    asyncio.run(main())


def delta(index: int, text: str, finish: FinishReason | None = None) -> Delta:
    return Delta(index, text, [1], finish=finish)


def ends() -> Chunk:
    return Chunk([delta(0, "", FinishReason.STOP), delta(1, "", FinishReason.STOP)])


def test_an_answer_comes_to_its_end_with_usage_and_times() -> None:
    async def scenario(stream: RequestStream, played: LinkPlayed) -> None:
        timings = Timings(1.0, 2.0, 3.0, 4.0)
        played.answer(Chunk([delta(0, "a")], 3), ends(), Finished(USAGE, timings))
        (first, second) = await anext(stream)
        assert (first.text, first.finish, second.index) == ("a", FinishReason.STOP, 1)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert (stream.usage, stream.timings, stream.prompt_tokens) == (USAGE, timings, 3)
        assert stream.answered >= stream.sealed > 0.0
        stream.close()
        assert played.cancelled == []  # there is nothing left to cancel

    play(scenario)


def test_what_waits_is_counted_until_it_is_taken() -> None:
    room = Room()

    async def scenario(stream: RequestStream, played: LinkPlayed) -> None:
        played.answer(Chunk([delta(0, "a" * 1000)]), Chunk([delta(1, "b" * 1000)]))
        assert 2000 < room.kept < 3000
        await anext(stream)
        assert room.kept == 0
        played.answer(Chunk([delta(0, "a" * 1000)]))
        assert room.kept > 1000
        stream.close()
        assert room.kept == 0

    play(scenario, room=room)


def test_what_waits_for_nobody_who_reads_is_dropped_and_the_answer_ends() -> None:
    room = Room(2500)

    async def scenario(stream: RequestStream, played: LinkPlayed) -> None:
        for _ in range(3):
            played.answer(Chunk([delta(0, "a" * 1000)]))
        assert room.kept == 0
        played.answer(Chunk([delta(0, "a" * 1000)]))  # it may: it has credit
        assert room.kept == 0
        with pytest.raises(AnswerNotRead, match="it is full"):
            await anext(stream)
        with pytest.raises(ProtocolError, match="ungranted"):
            played.answer(Chunk([delta(0, "a")]))
        stream.close()
        await played.note()
        assert played.request is not None
        assert played.cancelled == [played.request.request_id]

    play(scenario, room=room)


def test_whoever_lags_gets_one_bigger_piece_and_grants_what_was_taken() -> None:
    async def scenario(stream: RequestStream, played: LinkPlayed) -> None:
        played.answer(*(Chunk([delta(0, text)]) for text in "abc"))
        assert [piece.text for piece in await anext(stream)] == ["abc"]
        await played.note()
        assert played.granted == [3]

    play(scenario)


def test_more_than_the_window_breaks_the_protocol() -> None:
    async def scenario(stream: RequestStream, played: LinkPlayed) -> None:
        assert not stream.ended
        played.answer(*[Chunk([delta(0, "a")])] * 4)
        with pytest.raises(ProtocolError, match="more than 4"):
            played.answer(Chunk([delta(0, "a")]))

    play(scenario)


def test_an_end_before_every_choice_has_finished_breaks_the_protocol() -> None:
    async def scenario(stream: RequestStream, played: LinkPlayed) -> None:
        played.answer(Chunk([delta(0, "a", FinishReason.STOP)]))
        with pytest.raises(ProtocolError, match="1 choices unfinished"):
            played.answer(Finished(USAGE))
        assert not stream.ended

    play(scenario)


@pytest.mark.parametrize("index", [0, 2])
def test_a_choice_that_does_not_run_breaks_the_protocol(index: int) -> None:
    """Choice 0 has finished elsewhere, choice 2 was never asked for."""

    async def scenario(_: RequestStream, played: LinkPlayed) -> None:
        with pytest.raises(ProtocolError, match=f"choice {index}"):
            played.answer(Chunk([delta(index, "a")]))

    play(scenario, unfinished=(1,))


def test_what_came_before_a_failure_is_still_handed_on() -> None:
    async def scenario(stream: RequestStream, played: LinkPlayed) -> None:
        error = ErrorInfo("context_length_exceeded", "too long", "messages")
        played.answer(Chunk([delta(0, "a")]), Failed(error))
        assert [piece.text for piece in await anext(stream)] == ["a"]
        with pytest.raises(ContextLengthExceeded) as failed:
            await anext(stream)
        assert failed.value.param == "messages"

    play(scenario)


def test_a_stream_that_is_closed_early_is_cancelled_once() -> None:
    async def scenario(stream: RequestStream, played: LinkPlayed) -> None:
        stream.close()
        stream.close()
        await played.note()
        assert played.request is not None
        assert played.cancelled == [played.request.request_id]
        played.answer(Chunk([delta(0, "late")]))  # it crossed the cancel on its way

    play(scenario)


def test_a_chunk_without_tokens_is_handed_on_and_its_credit_comes_back() -> None:
    """So that a long prefill shows, however many of them it takes."""

    async def scenario(stream: RequestStream, played: LinkPlayed) -> None:
        for tokens in range(1, 9):
            played.answer(Chunk([], 9, prefilled=tokens))
            assert await anext(stream) == []
        for _ in range(4):
            await played.note()
        assert sum(played.granted) == 8
        assert stream.prompt_tokens == 9

    play(scenario)


def test_a_lie_breaks_the_protocol() -> None:
    async def scenario(_: RequestStream, played: LinkPlayed) -> None:
        with pytest.raises(ProtocolError, match="more tokens than were asked for"):
            played.answer(Chunk([Delta(0, "", [1] * 9)], 3))

    play(scenario)


def test_a_lost_link_ends_what_waits_on_it() -> None:
    async def scenario(stream: RequestStream, played: LinkPlayed) -> None:
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        played.link.lose(ProviderLost("gone"))
        with pytest.raises(ProviderLost):
            await waiting

    play(scenario)
