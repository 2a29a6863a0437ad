"""Schedules in which keys do their worst beside others, with faults drawn from a seed.

One asks for a hundred choices at once, and leaves when it hurts most; one spends more than its
budget, by requests that run at once. The others must not lose a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
from tests.simulation.provider import MODEL, Machine
from tests.simulation.virtual_time import run
from tests.simulation.wire import Faults
from tests.simulation.world import World, key

from tandem import protocol
from tandem.coordinator.accounts.records import CANCELLED, COMPLETED, Entry, KeyLimits
from tandem.coordinator.requests.inference_request import Generation, InferenceRequest
from tandem.errors import BudgetExhausted

HONEST = [key(1, "a"), key(2, "b")]
ABUSER = key(3, "abuser")
BUDGET = 150
POOR = msgspec.structs.replace(key(4, "poor"), limits=KeyLimits(budget_tokens=BUDGET))

_FAULTS = (
    Faults(until_s=0.0),
    Faults(crash_every_s=5.0, until_s=15.0),
    Faults(drop=0.01, corrupt=0.01, swap=0.01, refuse=0.1, until_s=15.0),
)


def play(seeds: Iterable[int]) -> None:
    """Raises what goes wrong with the seed's number; `schedule(seed)` plays it again."""
    for seed in seeds:
        try:
            schedule(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise


def schedule(seed: int) -> None:
    async def main() -> None:
        machines = [Machine(f"p{number}", sequences=8, tokens=16_384) for number in range(2)]
        world = World(seed, _FAULTS[seed % len(_FAULTS)], machines)
        await world.run(_consumers)
        _check(world)

    run(main())


def _check(world: World) -> None:
    closed = world.ledger.closed
    assert len(world.ledger.opened) == len(closed)
    assert all(len(rows) == 1 for rows in closed.values()), "billed twice"
    rows = [row for (row,) in closed.values()]
    of = {number: [row for row in rows if row.key_id == number] for number in range(1, 5)}
    assert {row.outcome for row in of[1] + of[2]} == {COMPLETED}
    assert {row.outcome for row in of[3]} <= {COMPLETED, CANCELLED}
    assert {row.outcome for row in of[4]} <= {COMPLETED, BudgetExhausted.code}
    assert sum(map(_tokens, of[4])) <= BUDGET


def _tokens(row: Entry) -> int:
    return row.prompt_tokens + row.completion_tokens


def _consumers(world: World) -> list[asyncio.Task[None]]:
    draw = world.draw

    async def honest(number: int) -> None:
        await world.until_served()
        await asyncio.sleep(8.0 * draw.random())
        who = HONEST[number % len(HONEST)]
        await world.ask(f"request {number}", who, tokens=draw.randint(1, 12))

    async def abuse(number: int) -> None:
        await world.until_served()
        await asyncio.sleep(4.0 * draw.random())
        await world.ask(
            f"abuse {number}",
            ABUSER,
            tokens=draw.randint(1, 8),
            n=draw.choice([1, 16, 64, 128]),
            leaves_after=draw.choice([None, 1, 2, 5]),
        )

    async def spend(number: int) -> None:
        await world.until_served()
        await asyncio.sleep(2.0 * draw.random())
        await _spend(world, f"spend {number}", tokens=draw.randint(5, 60), n=draw.choice([1, 3]))

    kinds = [(honest, 6), (abuse, 3), (spend, 5)]
    return [asyncio.create_task(kind(n)) for kind, count in kinds for n in range(count)]


async def _spend(world: World, name: str, *, tokens: int, n: int) -> None:
    """Takes what it gets, and no refusal is a surprise."""
    sampling = protocol.Sampling(max_tokens=tokens, seed=1)
    request = InferenceRequest(MODEL, Generation([protocol.TextPrompt(name * 4)], n, sampling))
    try:
        async with world.dispatcher.dispatch(request, POOR) as answer:
            ends = [d.finish async for deltas in answer for d in deltas if d.finish is not None]
        assert len(ends) == n
    except BudgetExhausted:
        pass
