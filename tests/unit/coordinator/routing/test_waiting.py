"""Whose turn it is at a model's providers, whatever queue they wait in."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from tests.support.registered import A, beat, join, make_registry, waiting

from tandem.coordinator.routing import shares
from tandem.coordinator.routing.admission import Admission
from tandem.coordinator.routing.demand import Demand
from tandem.errors import ModelNotFound
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
