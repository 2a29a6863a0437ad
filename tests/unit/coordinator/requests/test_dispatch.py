"""What surrounds a request: its row in the ledger, its key's tokens, its deadline, the drain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from tests.support.registered import beat, join, make_registry
from tests.support.requests_played import LinkPlayed

from tandem.coordinator.accounts.limits import Limiter
from tandem.coordinator.accounts.records import (
    CANCELLED,
    COMPLETED,
    Entry,
    KeyLimits,
    KeyRecord,
    LedgerHealth,
)
from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.requests.dispatch import Dispatcher
from tandem.coordinator.requests.inference_request import Generation, InferenceRequest
from tandem.errors import (
    BudgetExhausted,
    ContextLengthExceeded,
    Overloaded,
    RateLimited,
    RequestTimedOut,
    ServiceStopping,
)
from tandem.protocol import (
    Chunk,
    Delta,
    ErrorInfo,
    Failed,
    Finished,
    FinishReason,
    ModelName,
    Sampling,
    TextPrompt,
    Usage,
)

MODEL = ModelName("m")
REQUEST = InferenceRequest(MODEL, Generation([TextPrompt("hi")], 1, Sampling(max_tokens=8)))
CONFIG = CoordinatorConfig(
    host="", port=0, data_dir=Path(), join_token="", patience_s=0.0, max_requests=2
)


@dataclass
class LedgerPlayed:
    """Rows by request, each as often as it was written."""

    rows: dict[str, list[Entry]] = field(default_factory=dict)
    spent: dict[int, int] = field(default_factory=dict)
    full: bool = False
    health: LedgerHealth = field(default_factory=LedgerHealth)

    def open(self, entry: Entry) -> None:
        if self.full:
            raise Overloaded("the disk does not keep up")
        self.rows[entry.request_id] = [entry]

    def record(self, entry: Entry) -> None:
        self.rows.setdefault(entry.request_id, []).append(entry)

    def close(self) -> None: ...

    @property
    def last(self) -> Entry:
        (rows,) = self.rows.values()
        return rows[-1]


Scenario = Callable[[Dispatcher, LinkPlayed, LedgerPlayed], Awaitable[None]]


def play(scenario: Scenario, config: CoordinatorConfig = CONFIG) -> list[Entry]:
    """Runs it with one provider; what the dispatcher said has ended."""
    ended: list[Entry] = []

    async def main() -> None:
        registry, ledger = make_registry(), LedgerPlayed()
        provider = join(registry, [MODEL], name="box")
        registry.heartbeat(provider, beat())
        dispatcher = Dispatcher(
            config,
            registry,
            limiter=Limiter(ledger.spent, lambda: 0.0),
            ledger=ledger,
            on_ended=ended.append,
        )
        async with asyncio.timeout(30.0):
            await scenario(dispatcher, LinkPlayed(provider.link), ledger)
            await dispatcher.drain()  # nothing is under way any more
        assert provider.in_flight == 0

    asyncio.run(main())
    return ended


def key(*, budget_tokens: int) -> KeyRecord:
    limits = KeyLimits(budget_tokens=budget_tokens)
    return KeyRecord(1, "k", "sk", datetime.now(UTC), None, limits=limits)


async def consume(dispatcher: Dispatcher, who: KeyRecord | None = None) -> list[str]:
    async with dispatcher.dispatch(REQUEST, who) as run:
        return [piece.text async for deltas in run for piece in deltas]


def tokens(count: int, *, prompt: int, text: str = "", finish: FinishReason | None = None) -> Chunk:
    return Chunk([Delta(0, text, [1] * count, finish=finish)], prompt)


async def answer(played: LinkPlayed) -> None:
    await played.generate()
    last = Delta(0, "hello", [1, 2], finish=FinishReason.STOP)
    played.answer(Chunk([last], 5), Finished(Usage(5, 2, 3)))


def test_an_answer_is_written_down_once_with_what_it_took() -> None:
    async def scenario(dispatcher: Dispatcher, played: LinkPlayed, ledger: LedgerPlayed) -> None:
        texts, _ = await asyncio.gather(consume(dispatcher), answer(played))
        assert texts == ["hello"]
        assert ledger.last.outcome == COMPLETED

    (entry,) = play(scenario)
    assert (entry.prompt_tokens, entry.completion_tokens, entry.cached_tokens) == (5, 2, 3)
    assert (entry.provider, entry.attempts) == ("box", 1)
    assert entry.queue_s is not None
    assert entry.total_s is not None
    assert entry.queue_s <= entry.total_s


def test_whoever_leaves_early_is_written_down_as_cancelled() -> None:
    async def scenario(dispatcher: Dispatcher, played: LinkPlayed, ledger: LedgerPlayed) -> None:
        reading = asyncio.ensure_future(consume(dispatcher))
        await played.generate()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await played.note()
        assert len(played.cancelled) == 1
        assert ledger.last.outcome == CANCELLED

    assert len(play(scenario)) == 1


def test_an_error_is_written_down_by_its_code() -> None:
    async def scenario(dispatcher: Dispatcher, played: LinkPlayed, _: LedgerPlayed) -> None:
        reading = asyncio.ensure_future(consume(dispatcher))
        await played.generate()
        played.answer(Failed(ErrorInfo("context_length_exceeded", "too long")))
        with pytest.raises(ContextLengthExceeded):
            await reading

    (entry,) = play(scenario)
    assert entry.outcome == ContextLengthExceeded.code


def test_a_defect_of_the_consumers_side_is_written_down_as_ours() -> None:
    async def scenario(dispatcher: Dispatcher, _: LinkPlayed, __: LedgerPlayed) -> None:
        with pytest.raises(ZeroDivisionError):
            async with dispatcher.dispatch(REQUEST, None):
                raise ZeroDivisionError

    (entry,) = play(scenario)
    assert entry.outcome == "internal_error"


def test_the_time_for_all_of_it_ends_the_request() -> None:
    async def scenario(dispatcher: Dispatcher, _: LinkPlayed, __: LedgerPlayed) -> None:
        with pytest.raises(RequestTimedOut):
            await consume(dispatcher)

    (entry,) = play(scenario, msgspec.structs.replace(CONFIG, request_timeout_s=0.01))
    assert entry.outcome == RequestTimedOut.code


def test_what_cannot_be_written_down_is_not_run() -> None:
    async def scenario(dispatcher: Dispatcher, _: LinkPlayed, ledger: LedgerPlayed) -> None:
        ledger.full = True
        with pytest.raises(Overloaded):
            await consume(dispatcher)

    (entry,) = play(scenario)
    assert (entry.outcome, entry.attempts) == (Overloaded.code, 0)


def test_a_keys_tokens_are_held_while_it_runs_and_settled_by_what_it_took() -> None:
    """A budget for one request's estimate: a second waits until the first's rest is given back."""

    async def scenario(dispatcher: Dispatcher, played: LinkPlayed, _: LedgerPlayed) -> None:
        poor = key(budget_tokens=8)
        first = asyncio.ensure_future(consume(dispatcher, poor))
        await played.generate()
        with pytest.raises(BudgetExhausted):
            await consume(dispatcher, poor)
        played.answer(tokens(1, prompt=3, finish=FinishReason.STOP), Finished(Usage(3, 1, 0)))
        await first
        second = asyncio.ensure_future(consume(dispatcher, poor))
        assert (await played.generate()).sampling.max_tokens == 4, "it asks for what is left"
        played.answer(tokens(1, prompt=3, finish=FinishReason.STOP), Finished(Usage(3, 1, 0)))
        await second

    # Whoever was refused at the door has no row.
    assert [entry.outcome for entry in play(scenario)] == [COMPLETED, COMPLETED]


def test_a_key_never_gets_more_than_its_budget_whatever_comes() -> None:
    async def scenario(dispatcher: Dispatcher, played: LinkPlayed, _: LedgerPlayed) -> None:
        poor = key(budget_tokens=12)
        deltas: list[Delta] = []

        async def reading() -> None:
            async with dispatcher.dispatch(REQUEST, poor) as run:
                async for batch in run:
                    deltas.extend(batch)

        first = asyncio.ensure_future(reading())
        await played.generate()
        for count in (2, 4, 2):
            played.answer(tokens(count, prompt=5))
            await asyncio.sleep(0)
        await first
        await played.note()
        assert len(played.cancelled) == 1
        assert sum(len(delta.token_ids) for delta in deltas) <= 12 - 5
        assert [delta.finish for delta in deltas if delta.finish] == [FinishReason.LENGTH]
        second = asyncio.ensure_future(reading())
        await played.generate()
        played.answer(tokens(1, prompt=9))
        with pytest.raises(BudgetExhausted, match="the prompt has 9 tokens"):
            await second

    first, second = play(scenario)
    assert first.outcome == COMPLETED
    assert first.prompt_tokens + first.completion_tokens <= 12
    assert second.outcome == BudgetExhausted.code
    assert (second.prompt_tokens, second.completion_tokens) == (0, 0)


def test_requests_that_run_at_once_share_what_is_left() -> None:
    async def scenario(dispatcher: Dispatcher, played: LinkPlayed, _: LedgerPlayed) -> None:
        poor = key(budget_tokens=14)
        reads = [asyncio.ensure_future(consume(dispatcher, poor)) for _ in range(2)]
        first, second = await played.generate(), played.request
        assert (await played.generate()).sampling.max_tokens == 6
        assert first.sampling.max_tokens == 8
        played.answer(tokens(4, prompt=2))
        other, played.request = played.request, second
        played.answer(tokens(4, prompt=2), tokens(4, prompt=2, finish=FinishReason.LENGTH))
        played.answer(Finished(Usage(2, 8, 0)))
        await reads[0]
        if not reads[1].done():
            played.request = other
            last = tokens(2, prompt=2, finish=FinishReason.LENGTH)
            played.answer(last, Finished(Usage(2, 6, 0)))
        await reads[1]

    entries = play(scenario)
    assert {entry.outcome for entry in entries} == {COMPLETED}
    assert sum(entry.prompt_tokens + entry.completion_tokens for entry in entries) <= 14


def test_so_many_requests_are_admitted_at_once() -> None:
    async def scenario(dispatcher: Dispatcher, _: LinkPlayed, __: LedgerPlayed) -> None:
        async with dispatcher.dispatch(REQUEST, None), dispatcher.dispatch(REQUEST, None):
            with pytest.raises(Overloaded, match="2 requests are under way"):
                await consume(dispatcher)

    play(scenario)


def test_one_key_does_not_take_all_requests_that_are_admitted() -> None:
    async def scenario(dispatcher: Dispatcher, _: LinkPlayed, __: LedgerPlayed) -> None:
        greedy, other = (
            key(budget_tokens=10**6),
            msgspec.structs.replace(key(budget_tokens=99), id=2),
        )
        async with AsyncExitStack() as under_way:
            for _number in range(12):
                await under_way.enter_async_context(dispatcher.dispatch(REQUEST, greedy))
            with pytest.raises(RateLimited, match="12 requests under way"):
                await consume(dispatcher, greedy)
            await under_way.enter_async_context(dispatcher.dispatch(REQUEST, other))
            await under_way.enter_async_context(dispatcher.dispatch(REQUEST, None))

    play(scenario, msgspec.structs.replace(CONFIG, max_requests=16))


def test_a_drain_admits_nothing_and_waits_for_what_runs() -> None:
    async def scenario(dispatcher: Dispatcher, played: LinkPlayed, _: LedgerPlayed) -> None:
        reading = asyncio.ensure_future(consume(dispatcher))
        await played.generate()
        draining = asyncio.ensure_future(dispatcher.drain())
        await asyncio.sleep(0)
        assert dispatcher.stopping
        with pytest.raises(ServiceStopping):
            await consume(dispatcher)
        assert not draining.done()
        last = Delta(0, "hello", [1], finish=FinishReason.STOP)
        played.answer(Chunk([last], 5), Finished(Usage(5, 1, 0)))
        assert await reading == ["hello"]
        await draining

    play(scenario)


def test_what_a_drain_did_not_see_end_is_told_that_the_service_stops() -> None:
    async def scenario(dispatcher: Dispatcher, played: LinkPlayed, ledger: LedgerPlayed) -> None:
        reading = asyncio.ensure_future(consume(dispatcher))
        await played.generate()
        draining = asyncio.ensure_future(dispatcher.drain())
        await asyncio.sleep(0)
        dispatcher.give_up()
        with pytest.raises(ServiceStopping):
            await reading
        await draining
        assert ledger.last.outcome == ServiceStopping.code

    play(scenario)
