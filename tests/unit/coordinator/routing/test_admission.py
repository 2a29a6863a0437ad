"""Those who wait for a place: who gets it, and what it costs to find out."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.simulation.virtual_time import run
from tests.support.registered import A, beat, join, make_registry, waiting

from tandem.coordinator.fleet.provider import Hold, Provider
from tandem.coordinator.routing import choice
from tandem.coordinator.routing import registry as registry_module
from tandem.coordinator.routing.admission import Admission
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import Reason, eligibility
from tandem.coordinator.routing.registry import Registry
from tandem.coordinator.routing.reservation import Reservation
from tandem.errors import (
    ContextLengthExceeded,
    NoProviderAvailable,
    Overloaded,
    RateLimited,
    ServiceStopping,
)


def full_fleet(size: int) -> tuple[Registry, Admission, list[Reservation]]:
    registry = make_registry(max_providers=size)
    admission = Admission(registry, max_waiting=100, patience_s=0.0)
    for _ in range(size):
        registry.heartbeat(join(registry, ["a"]), beat())
    return registry, admission, [registry.reserve(A) for _ in range(2 * size)]


def test_a_place_that_is_given_back_goes_to_whoever_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the price of one look at one provider, however many there are."""
    looks = 0

    def counted(provider: Provider, demand: Demand, *, now: float) -> Reason | None:
        nonlocal looks
        looks += 1
        return eligibility(provider, demand, now=now)

    async def main() -> None:
        nonlocal looks
        registry, admission, places = full_fleet(300)
        waiting = [asyncio.create_task(admission.reserve(A, "k")) for _ in range(3)]
        await asyncio.sleep(0)
        assert admission.waiting(A.model, A.owners) == 3
        for module in (registry_module, choice):
            monkeypatch.setattr(module, "eligibility", counted)
        looks = 0
        for place in places[7:10]:
            place.release()
        assert looks < 10
        given = [(await task).provider for task in waiting]
        assert given == [place.provider for place in places[7:10]]
        for provider in registry.providers:
            registry.heartbeat(provider, beat())
        assert looks < 10, "nobody waits any more"

    asyncio.run(main())


def test_whoever_comes_to_an_empty_queue_does_not_wait() -> None:
    """Also before those who were just given places have woken up."""

    async def main() -> None:
        _, admission, places = full_fleet(2)
        waiting = asyncio.create_task(admission.reserve(A, "k"))
        await asyncio.sleep(0)
        places[0].release()
        places[1].release()
        with pytest.raises(StopIteration):  # it returns at its first step
            admission.reserve(A, "k").send(None)
        await waiting

    asyncio.run(main())


def test_nobody_is_placed_at_a_provider_that_has_gone() -> None:
    """Its requests give their places back when it is lost: those places are none."""

    async def main() -> None:
        registry, admission, places = full_fleet(2)
        waiting = asyncio.create_task(admission.reserve(A, "k"))
        await asyncio.sleep(0)
        registry.remove(places[0].provider)
        places[0].release()
        assert admission.waiting(A.model, A.owners) == 1
        other = next(p for p in places if p.provider is not places[0].provider)
        other.release()
        assert (await waiting).provider is other.provider

    asyncio.run(main())


def test_a_waiter_who_is_cancelled_with_a_place_in_hand_gives_it_back() -> None:
    async def main() -> None:
        registry, admission, places = full_fleet(1)
        waiting = asyncio.create_task(admission.reserve(A, "k"))
        await asyncio.sleep(0)
        places[0].release()  # the place is the waiter's now, who has not woken up yet
        assert registry.providers[0].in_flight == 2
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert registry.providers[0].in_flight == 1
        assert admission.waiting(A.model, A.owners) == 0

    asyncio.run(main())


def test_accounts_that_share_a_machine_take_turns_at_it() -> None:
    async def main() -> None:
        registry, admission, (place, _) = full_fleet(1)
        own = msgspec.structs.replace(A, tokens=10, prompt_tokens=10)
        shared = frozenset({"guest", "default"})
        guests = msgspec.structs.replace(own, account="guest", owners=shared)
        waiting = [
            (name, asyncio.create_task(admission.reserve(demand, name)))
            for name, demand in (("own", own), ("guests", guests))
            for _ in range(3)
        ]
        await asyncio.sleep(0)
        assert admission.waiting(A.model, A.owners) == 3
        assert admission.waiting(A.model, frozenset({"stranger"})) == 0
        served = []
        while waiting:
            place.release()
            await asyncio.sleep(0)
            (turn,) = [pair for pair in waiting if pair[1].done()]
            waiting.remove(turn)
            served.append(turn[0])
            place = turn[1].result()
        assert served == ["own", "guests"] * 3
        assert len(registry) == 1

    asyncio.run(main())


def test_a_long_answer_counts_while_it_grows_and_what_was_not_used_is_given_back() -> None:
    async def main() -> None:
        _, admission, places = full_fleet(1)
        sized = msgspec.structs.replace(A, tokens=200, prompt_tokens=100)
        for place in places:
            place.release()
        long, short = [await admission.reserve(sized, name) for name in ("long", "short")]
        tasks = [await waiting(admission, name, sized) for name in ("long", "short") * 2]
        long.saw_tokens(500, prompt_tokens=100)
        short.saw_tokens(10, prompt_tokens=100)
        short.release()
        second = await tasks[1]
        second.release()  # cancelled before its first token: the prompt is charged
        third = await tasks[3]
        third.failed()  # the provider's fault: nothing is
        third.release()
        assert (await tasks[0]) is not None
        assert not tasks[2].done()
        long.release()
        await tasks[2]

    asyncio.run(main())


def test_one_that_lost_its_place_goes_before_those_that_wait_and_is_never_given_up() -> None:
    async def main() -> None:
        _, admission, places = full_fleet(1)
        others = [await waiting(admission, "k") for _ in range(100)]
        with pytest.raises(Overloaded, match="100 requests for the model"):
            await admission.reserve(A, "k")
        moved = await waiting(admission, "k", resumes=True)
        for _ in range(20):
            await waiting(admission, "other")
        places[0].release()
        await moved
        assert not any(task.done() and not task.exception() for task in others)

    asyncio.run(main())


def test_one_key_has_so_many_waiting_in_all_queues_together() -> None:
    async def main() -> None:
        _, admission, _ = full_fleet(1)
        shared = msgspec.structs.replace(A, owners=frozenset({"default", "guest"}))
        for number in range(100):
            await waiting(admission, "k", shared if number % 2 else A)
        with pytest.raises(RateLimited, match="100 requests waiting"):
            await admission.reserve(A, "k")
        other = await waiting(admission, "other")
        assert not other.done()

    asyncio.run(main())


def test_what_is_too_large_for_the_room_is_overtaken_by_its_own_size_and_no_more() -> None:
    async def main() -> None:
        registry = make_registry()
        admission = Admission(registry, max_waiting=100, patience_s=0.0)
        for _ in range(2):
            provider = join(registry, ["a"])
            registry.heartbeat(provider, beat(max_sequences=8))
        small = msgspec.structs.replace(A, tokens=256)
        held = [await admission.reserve(small, "many") for _ in range(16)]
        large = await waiting(admission, "large", msgspec.structs.replace(A, tokens=1024))
        after = [await waiting(admission, "many", small) for _ in range(40)]
        passed = 0
        while not large.done():
            held.pop(0).release()
            await asyncio.sleep(0)
            for task in [task for task in after if task.done()]:
                after.remove(task)
                held.append(await task)
                passed += not large.done()
        # Four on its way to being kept; the other provider goes on meanwhile.
        assert 4 <= passed <= 16
        for task in after:
            task.cancel()

    asyncio.run(main())


def test_room_that_those_before_cannot_use_is_the_newcomers_at_once() -> None:
    async def main() -> None:
        registry = make_registry()
        admission = Admission(registry, max_waiting=100, patience_s=0.0)
        provider = join(registry, ["a"])
        registry.heartbeat(provider, beat(max_sequences=16))
        await admission.reserve(A, "other")
        held = [await admission.reserve(A, "many") for _ in range(14)]
        more = await waiting(admission, "many")
        assert not more.done(), "it leaves an eighth to others"
        with pytest.raises(StopIteration):  # it returns at its first step
            admission.reserve(A, "other").send(None)
        held[0].release()
        held[1].release()
        await more

    asyncio.run(main())


def test_many_sequences_begin_with_a_few_while_another_key_waits() -> None:
    async def main() -> None:
        registry = make_registry()
        admission = Admission(registry, max_waiting=100, patience_s=0.0)
        provider = join(registry, ["a"])
        registry.heartbeat(provider, beat(max_sequences=8))
        many = msgspec.structs.replace(A, sequences=64, divisible=True)
        whole = await admission.reserve(many, "many")
        assert whole.sequences == 8
        turns = await waiting(admission, "many", many)
        other = await waiting(admission, "other")
        whole.release()
        assert (await turns).sequences == 4
        assert (await other).sequences == 1

    asyncio.run(main())


def test_what_fits_nowhere_is_refused_at_once_though_others_wait() -> None:
    async def main() -> None:
        _, admission, _ = full_fleet(1)
        await waiting(admission, "k")
        with pytest.raises(ContextLengthExceeded):
            await admission.reserve(msgspec.structs.replace(A, least_tokens=4096), "k")

    asyncio.run(main())


def test_those_whose_patience_is_over_are_refused_and_the_others_wait_on() -> None:
    async def main() -> None:
        registry, clock = make_registry(asyncio.get_running_loop().time), 1.0
        admission = Admission(registry, max_waiting=100, patience_s=clock)
        provider = join(registry, ["a"])
        registry.heartbeat(provider, beat(max_sequences=1))
        await admission.reserve(A, "k")
        early = [await waiting(admission, f"{number}") for number in range(30)]
        await asyncio.sleep(0.6)
        registry.hold(provider, Hold.LEAVING)
        late = await waiting(admission, "late")
        await asyncio.sleep(0.8)
        assert {type(task.exception()) for task in early} == {NoProviderAvailable}
        assert not late.done()
        late.cancel()

    run(main())


def test_thousands_of_requests_over_thousands_of_providers_cost_no_event_a_look_at_all() -> None:
    """Whether they come, are cancelled, lose their places or have nobody left to serve them."""
    few, many = run(_looks(40, 64)), run(_looks(4096, 2048))
    for what, looks in many.items():
        assert looks <= 4 * few[what] + 64, (what, looks, few[what])


async def _looks(waiters: int, providers: int) -> dict[str, int]:
    """How often a provider is looked at for each event, on the average of all such events."""
    registry = make_registry(asyncio.get_running_loop().time, max_providers=providers)
    admission = Admission(registry, max_waiting=waiters, patience_s=1.0)
    for _ in range(providers):
        registry.heartbeat(join(registry, ["a"]), beat(max_sequences=1))
    held = [registry.reserve_at(provider, A) for provider in registry.providers]
    counted = {"looks": 0}

    def looked(provider: Provider, demand: Demand, *, now: float) -> Reason | None:
        counted["looks"] += 1
        return eligibility(provider, demand, now=now)

    def taken(events: int) -> int:
        looks, counted["looks"] = counted["looks"], 0
        return looks // events

    with pytest.MonkeyPatch.context() as patch:
        for module in (registry_module, choice):
            patch.setattr(module, "eligibility", looked)
        found = {}
        tasks = [await waiting(admission, f"{n % 7}") for n in range(waiters)]
        found["come"] = taken(waiters)
        moved = [await waiting(admission, "m", resumes=True) for _ in range(waiters)]
        found["move"] = taken(waiters)
        for provider in registry.providers:
            registry.heartbeat(provider, beat(max_sequences=1))
        found["beat"] = taken(providers)
        assert isinstance(held[0], Reservation)
        held[0].release()
        found["release"] = taken(1)
        await asyncio.sleep(0.25 * registry.pace)
        found["recheck"] = taken(providers)
        for task in moved:
            task.cancel()
        await asyncio.sleep(0)
        found["cancel"] = taken(waiters)
        for provider in registry.providers:
            registry.hold(provider, Hold.LEAVING)
        await asyncio.sleep(5.0)
        assert all(isinstance(task.exception(), NoProviderAvailable) for task in tasks)
        found["give up"] = taken(providers)
    return found


def test_when_it_closes_nobody_waits_any_more() -> None:
    async def main() -> None:
        _, admission, places = full_fleet(1)
        waiting = asyncio.create_task(admission.reserve(A, "k"))
        await asyncio.sleep(0)
        admission.close()
        with pytest.raises(ServiceStopping):
            await waiting
        with pytest.raises(ServiceStopping):
            await admission.reserve(A, "k")
        assert admission.waiting(A.model, A.owners) == 0
        places[0].release()
        await admission.reserve(A, "k", resumes=True)

    asyncio.run(main())
