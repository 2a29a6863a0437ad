"""Who waits for a place: the queues of one model, and whose turn it is at a provider. Plain data.

`Admission` moves requests in and out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.fair_queue import FairQueue
from tandem.coordinator.routing.reservation import Reservation
from tandem.coordinator.routing.shares import ModelShares, Share
from tandem.errors import TandemError
from tandem.protocol import ProviderId, Trust

#: How many of those whose turn it is are looked at when the first cannot have the room.
LOOKS = 8
#: How many sequences one request begins with while other keys wait.
_TURN = 4


class QueueId(NamedTuple):
    """What those who wait for one model in one queue have in common."""

    min_trust: Trust
    owners: frozenset[str]

    @classmethod
    def of(cls, demand: Demand) -> QueueId:
        return cls(demand.min_trust, demand.owners)


@dataclass(eq=False)
class Waiter:
    demand: Demand
    key: str
    share: Share
    avoid: Collection[ProviderId]
    #: Loop time until which it waits for a provider to come back, when there is none.
    until: float
    #: Tokens that went past it, to places that it was too large for.
    overtaken: int = 0
    #: Who takes nothing else, so that there is room for it some time.
    kept_by: Provider | None = None
    reservation: asyncio.Future[Reservation] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def refuse(self, error: TandemError) -> None:
        if not self.reservation.done():
            self.reservation.set_exception(error)


Queue = FairQueue[Waiter]


@dataclass
class ModelQueues:
    """What waits for one model."""

    shares: ModelShares
    queues: dict[QueueId, Queue] = field(default_factory=dict)
    #: Loop time from which a request may again have all providers looked at.
    look_again_at: float = 0.0

    @property
    def keys(self) -> int:
        """How many have something waiting, each counted in every queue."""
        return sum(queue.keys for queue in self.queues.values())

    def heads(self, account: str, most: int) -> list[Waiter]:
        """Those whose turn it is at an account's machines; which had least of the model first."""
        queues = [queue for id_, queue in self.queues.items() if account in id_.owners]
        found = [pair for queue in queues for pair in heads_of(queue, most)]
        if len(queues) > 1:
            found.sort(key=lambda pair: pair[0].used)
        return [waiter for _, waiter in found[:most]]


def turn_of(demand: Demand, waits: ModelQueues) -> Demand:
    """What a request begins with: a few of many sequences, while other keys wait."""
    if not demand.divisible or demand.sequences <= _TURN or waits.keys < 2:
        return demand
    return demand.part(_TURN)


def in_turn(waits: ModelQueues, account: str) -> Iterator[Waiter]:
    """Whose turn it is, and who is next if that one cannot go: most often one look is enough."""
    first = waits.heads(account, 1)
    yield from first
    if first:
        yield from waits.heads(account, LOOKS)[1:]


def heads_of(queue: Queue, most: int) -> list[tuple[Share, Waiter]]:
    """Whose turn it is, of those that still wait."""
    while True:
        heads = queue.heads(most)
        gone = [waiter for _, waiter in heads if waiter.reservation.done()]
        if not gone:
            return heads
        for waiter in gone:
            queue.discard(waiter.key, waiter)
