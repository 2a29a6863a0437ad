"""Those who wait for a place: who gets it, and what it costs to find out."""

from __future__ import annotations

import asyncio

import pytest
from tests.support.registered import beat, join, make_registry

from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing import choice
from tandem.coordinator.routing import registry as registry_module
from tandem.coordinator.routing.admission import Admission
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import Reason, eligibility
from tandem.coordinator.routing.registry import Registry
from tandem.coordinator.routing.reservation import Reservation
from tandem.protocol import ModelName

A = Demand(ModelName("a"))


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
        guests = Demand(A.model, account="guest", owners=frozenset({"guest", "default"}))
        waiting = [
            (name, asyncio.create_task(admission.reserve(demand, name)))
            for name, demand in (("own", A), ("guests", guests))
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
