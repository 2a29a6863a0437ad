"""Whose turn it is at a model's providers, whatever queue they wait in."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.simulation.virtual_time import run
from tests.support.registered import A, beat, join, make_registry, waiting

from tandem.coordinator.fleet import many
from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing import admission as admission_module
from tandem.coordinator.routing import choice, shares
from tandem.coordinator.routing.admission import Admission
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import Reason, eligibility
from tandem.coordinator.routing.fair_queue import FairQueue
from tandem.coordinator.routing.waiting import Waiter
from tandem.errors import ModelNotFound, NoProviderAvailable
from tandem.protocol import ModelName, Trust


def test_room_goes_to_the_key_that_has_had_least_whatever_trust_it_asks_for() -> None:
    """Nobody is starved by a queue that is never empty, nor gains by waiting in several."""

    async def main() -> None:
        registry = make_registry()
        admission = Admission(registry, max_waiting=100, patience_s=0.0)
        provider = join(registry, ["a"], trust=Trust.HARDWARE)
        registry.heartbeat(provider, beat(max_sequences=1))
        held = await admission.reserve(A, "first")
        sized = msgspec.structs.replace(A, tokens=100, prompt_tokens=100)
        tasks = [await waiting(admission, "greedy", sized) for _ in range(40)]
        safe = msgspec.structs.replace(sized, min_trust=Trust.HARDWARE)
        tasks += [await waiting(admission, "greedy", safe) for _ in range(40)]
        tasks += [await waiting(admission, "careful", safe) for _ in range(20)]
        served: list[int] = []
        for _ in range(40):
            held.release()
            await asyncio.sleep(0)
            (done,) = [n for n, task in enumerate(tasks) if n not in served and task.done()]
            served.append(done)
            held = await tasks[done]
        assert 19 <= sum(number >= 80 for number in served) <= 21
        for task in tasks:
            task.cancel()

    asyncio.run(main())


@pytest.mark.parametrize("invented", ["models", "keys"])
def test_names_that_others_invent_make_nobody_forget_what_a_key_has_had(
    invented: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "_MAX_MODELS", 4)
    monkeypatch.setattr(shares, "_MAX_KEYS", 4)

    async def main() -> None:
        registry = make_registry()
        admission = Admission(registry, max_waiting=100, patience_s=0.0)
        provider = join(registry, ["a"])
        registry.heartbeat(provider, beat(max_sequences=1))
        held = await admission.reserve(A, "first")
        sized = msgspec.structs.replace(A, tokens=100, prompt_tokens=100)
        tasks = [await waiting(admission, "greedy", sized)]
        for number in range(10):
            if invented == "models":
                with pytest.raises(ModelNotFound):
                    await admission.reserve(Demand(ModelName(f"m{number}")), "other")
            else:
                (await waiting(admission, f"k{number}", sized)).cancel()
                await asyncio.sleep(0)
        tasks += [await waiting(admission, "greedy", sized) for _ in range(40)]
        tasks += [await waiting(admission, "careful", sized) for _ in range(20)]
        served: list[int] = []
        for _ in range(40):
            held.release()
            await asyncio.sleep(0)
            (done,) = [n for n, task in enumerate(tasks) if n not in served and task.done()]
            served.append(done)
            held = await tasks[done]
        assert 19 <= sum(number > 40 for number in served) <= 21
        for task in tasks:
            task.cancel()

    asyncio.run(main())


def test_many_accounts_that_wait_at_many_machines_cost_no_event_a_look_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They wait in a queue each, which are looked at in turns."""
    accounts, providers = 100, 50
    monkeypatch.setattr(admission_module, "_LOOKS_AT_ONCE", 10 * providers)
    counted = {"looks": 0, "heads": 0}

    def looked(provider: Provider, demand: Demand, *, now: float) -> Reason | None:
        counted["looks"] += 1
        return eligibility(provider, demand, now=now)

    heads = FairQueue.heads

    def headed(queue: FairQueue[Waiter], most: int) -> list[tuple[shares.Share, Waiter]]:
        counted["heads"] += 1
        return heads(queue, most)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        registry = make_registry(loop.time, max_providers=providers)
        admission = Admission(registry, max_waiting=4, patience_s=1.0)
        machines = [join(registry, ["a"]) for _ in range(providers)]
        for machine in machines:
            registry.heartbeat(machine, beat(max_sequences=1))
            registry.reserve_at(machine, A)
        tasks = []
        for number in range(accounts):
            owners = frozenset({"default", f"account {number}"})
            demand = msgspec.structs.replace(A, account=f"account {number}", owners=owners)
            tasks.append(await waiting(admission, f"key {number}", demand))
        monkeypatch.setattr(choice, "eligibility", looked)
        counted.update(looks=0, heads=0)
        for machine in machines:
            registry.heartbeat(machine, beat(max_sequences=1))
        assert counted["heads"] == 0, "who is full has nothing to give"
        await asyncio.sleep(0.25)
        assert 0 < counted["looks"] <= 10 * (providers + many._DRAWN)
        for machine in machines:
            registry.remove(machine)
        await asyncio.sleep(30.0)
        assert all(isinstance(task.exception(), NoProviderAvailable) for task in tasks)

    monkeypatch.setattr(FairQueue, "heads", headed)
    run(main())
