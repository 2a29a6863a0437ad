"""The load scenarios on the virtual clock: every request, every segment, every bound.

The coordinator's clocks are the world's, so that nothing of it depends on the machine. `make soak`
runs the same scenarios on real processes, and `tandem bench scenarios` judges their speed.
"""

from __future__ import annotations

import asyncio
import time

import pytest
from tests.simulation.provider import Machine
from tests.simulation.virtual_time import run
from tests.simulation.wire import Faults
from tests.simulation.world import World, key

from tandem.bench.latency import checks, decompose
from tandem.bench.scenarios import SCENARIOS, Scenario
from tandem.bench.streams import TimedAnswer
from tandem.protocol import ModelName

_EPOCH_S = 1_000_000.0
_FIRST, _SECOND = ModelName("first"), ModelName("second")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_request_succeeds_and_every_check_passes(
    monkeypatch: pytest.MonkeyPatch, scenario: Scenario
) -> None:
    async def main() -> tuple[World, list[TimedAnswer]]:
        clock = asyncio.get_running_loop().time
        monkeypatch.setattr(time, "time", lambda: _EPOCH_S + clock())
        faults = Faults(delay_s=0.002, crash_every_s=6.0 if scenario.kills else 0.0, until_s=1e6)
        world = World(5, faults, _machines(scenario))
        answers: list[TimedAnswer] = []
        await world.run(lambda _: _consumers(world, scenario, answers))
        return world, answers

    world, answers = run(main())
    samples = [decompose(answer, scenario.tokens) for answer in answers]
    assert [c for c in checks(samples, scenario.requests) if not c.passed] == []
    rows = [row for (row,) in world.ledger.closed.values()]
    assert len(rows) == scenario.requests
    assert {row.outcome for row in rows} == {"completed"}
    assert sum(row.completion_tokens for row in rows) == scenario.requests * scenario.tokens
    assert len({row.key_id for row in rows}) == scenario.users
    assert {row.model for row in rows} == {_FIRST, *([_SECOND] if scenario.second else [])}
    assert world.outcomes["misrouted"] == 0
    assert bool(world.outcomes["moved"]) == scenario.kills


def _machines(scenario: Scenario) -> list[Machine]:
    def machine(name: str, model: ModelName, rank: int | None = None) -> Machine:
        return Machine(name, model, rank, sequences=scenario.max_sequences, tokens=16_384)

    if scenario.ranks > 1:
        return [machine(f"rank-{rank}", _FIRST, rank) for rank in range(scenario.ranks)]
    first = [machine(f"first-{number}", _FIRST) for number in range(scenario.providers)]
    return [*first, *(machine(f"second-{n}", _SECOND) for n in range(scenario.second))]


def _consumers(
    world: World, scenario: Scenario, answers: list[TimedAnswer]
) -> list[asyncio.Task[None]]:
    places = asyncio.Semaphore(scenario.concurrency)
    keys = [key(number, f"user {number}") for number in range(scenario.users)]
    models = [_FIRST] * scenario.providers + [_SECOND] * scenario.second

    async def one(number: int) -> None:
        model = models[number % len(models)]
        await world.until_served(model)
        async with places:
            started = time.time()
            answer = await world.ask(
                f"{scenario.name} {number} ".ljust(scenario.prompt_bytes, "."),
                keys[number % len(keys)],
                tokens=scenario.tokens,
                model=model,
                reads_slowly=False,
            )
            total_s = time.time() - started
            assert answer.progress.first_at is not None
            first_s = answer.progress.first_at - started + _EPOCH_S
            answers.append(TimedAnswer("", started, first_s, total_s, answer.trace(started)))

    return [asyncio.create_task(one(number)) for number in range(scenario.requests)]
