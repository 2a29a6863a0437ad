"""Schedules of faults, each drawn from its seed: what a few consumers meet in half a minute."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence

from tests.simulation.provider import Machine
from tests.simulation.virtual_time import run
from tests.simulation.wire import Faults
from tests.simulation.world import MACHINES, World, key

KEYS = [key(1, "a"), key(2, "b"), key(3, "c")]
_KINDS = {
    "crashes": Faults(crash_every_s=4.0, until_s=20.0),
    "lost and altered messages": Faults(drop=0.02, corrupt=0.02, swap=0.02, until_s=20.0),
    "hangs": Faults(hang_every_s=6.0, until_s=20.0),
    "restarts": Faults(drain_every_s=4.0, until_s=20.0),
    "refusals": Faults(refuse=0.4, until_s=20.0),
    "everything": Faults(
        drop=0.005,
        corrupt=0.005,
        swap=0.005,
        refuse=0.1,
        crash_every_s=8.0,
        hang_every_s=15.0,
        drain_every_s=15.0,
        until_s=20.0,
    ),
}


def play(seeds: Iterable[int]) -> None:
    """Raises what goes wrong with the seed's number; `schedule(seed)` plays it again."""
    total: Counter[str] = Counter()
    for seed in seeds:
        try:
            total += schedule(seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    assert total["moved"] > total["done"] / 20, "the faults must hit"


#: Nobody leaves: whoever is idle hears nothing between challenges.
_NONE = Faults(until_s=0.0, silence_s=60.0)
#: One honest machine among them is enough, as long as it is there.
_LIARS = [
    Machine("honest", sequences=4),
    *(Machine(f"liar {number}", lies=0.7, sequences=64, tokens=64_000) for number in range(2)),
]


def play_with_liars(seeds: Iterable[int]) -> None:
    """As `play`, with providers that lie beside one that does not."""
    total: Counter[str] = Counter()
    for seed in seeds:
        try:
            total += schedule(seed, _LIARS)
        except BaseException as error:
            error.add_note(f"seed {seed}, with liars")
            raise
    assert total["lies"] > total["done"] / 4, "they must lie"


def schedule(seed: int, machines: Sequence[Machine] = MACHINES) -> Counter[str]:
    kind = sorted(_KINDS)[seed % len(_KINDS)]
    faults = _KINDS[kind] if machines is MACHINES else _NONE

    async def main() -> Counter[str]:
        world = World(seed, faults, machines)
        checking = asyncio.create_task(check(world))
        await world.run(_consumers)
        checking.cancel()
        closed = world.ledger.closed
        assert len(world.ledger.opened) == world.outcomes["done"] == len(closed)
        assert all(len(entries) == 1 for entries in closed.values()), "billed twice"
        return world.outcomes

    async def check(world: World) -> None:
        while True:
            world.check_counts()
            await asyncio.sleep(0.05)

    return run(main())


def _consumers(world: World) -> list[asyncio.Task[None]]:
    """A few requests over the first seconds; some leave early."""
    draw = world.draw

    async def later(number: int) -> None:
        await world.until_served()
        await asyncio.sleep(10.0 * draw.random())
        leaves = draw.randint(1, 3) if draw.random() < 0.15 else None
        await world.ask(
            f"request {number}",
            draw.choice(KEYS),
            tokens=draw.randint(1, 12),
            n=draw.choice([1, 1, 2]),
            leaves_after=leaves,
        )

    return [asyncio.create_task(later(number)) for number in range(draw.randint(3, 8))]
