"""Requests that wait for a reservation: bounded queues, fair between API keys.

There is one queue a model, level of trust and set of accounts whose machines may serve, so that
nobody waits behind a request that only others than his providers could serve. Queues that want the
same provider take turns.

A request that finds none waits for one when somebody who serves its model is busy, or was
there a moment ago: a provider that restarts is worth a few seconds. Whoever waits is served in the
order of `FairQueue`, as soon as any provider gets room; nobody overtakes the queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.fair_queue import FairQueue, QueueFull
from tandem.coordinator.routing.registry import Registry
from tandem.coordinator.routing.reservation import Reservation
from tandem.errors import NoProviderAvailable, Overloaded, TandemError
from tandem.protocol import ModelName, ProviderId, Trust

#: Some things change without an event: a pause of a breaker ends, a provider goes stale.
_RECHECK_S = 0.25


class _QueueId(NamedTuple):
    """What those who wait in one queue have in common."""

    model: ModelName
    min_trust: Trust
    owners: frozenset[str]


@dataclass(eq=False)
class _Waiter:
    demand: Demand
    avoid: Collection[ProviderId]
    #: Loop time until which it waits for a provider to come back, when there is none.
    until: float
    reservation: asyncio.Future[Reservation] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def refuse(self, error: TandemError) -> None:
        if not self.reservation.done():
            self.reservation.set_exception(error)


class Admission:
    """`patience_s`: how long a request waits for the return of a provider that was just here."""

    def __init__(self, registry: Registry, *, max_waiting: int, patience_s: float) -> None:
        self._registry = registry
        self._max_waiting = max_waiting
        self._patience_s = patience_s
        self._queues: dict[_QueueId, FairQueue[_Waiter]] = {}
        self._timer: asyncio.TimerHandle | None = None
        registry.on_capacity(self._on_capacity)

    def waiting(self, model: ModelName, owners: frozenset[str]) -> int:
        """Those who wait for the model at the machines of just these accounts."""
        wanted = (model, owners)
        return sum(len(q) for id_, q in self._queues.items() if (id_.model, id_.owners) == wanted)

    async def reserve(
        self,
        demand: Demand,
        key: str,
        avoid: Collection[ProviderId] = (),
        *,
        resumes: bool = False,
    ) -> Reservation:
        """A reservation for the request, at once or when its turn comes.

        One that `resumes` lost its own without its own fault, and goes before those that wait.
        Raises what `Registry.reserve` raises, when waiting is of no use or the queue is
        full; the caller sets the deadline.
        """
        if resumes or not self._queues.get(_queue_id(demand)):
            try:
                return self._registry.reserve(demand, avoid)
            except (Overloaded, NoProviderAvailable) as error:
                self._check_hope(demand, error)
        waiter = _Waiter(demand, avoid, asyncio.get_running_loop().time() + self._patience_s)
        self._enqueue(waiter, key)
        try:
            return await waiter.reservation
        except asyncio.CancelledError:
            made = waiter.reservation
            if made.done() and not made.cancelled() and made.exception() is None:
                made.result().release()
            raise
        finally:
            self._dequeue(waiter, key)

    def _check_hope(self, demand: Demand, error: TandemError) -> None:
        """Raises the refusal when nobody is busy, and nobody was here lately."""
        if isinstance(error, Overloaded):
            return
        if self._registry.served_within_s(demand) > self._patience_s:
            raise error

    def _enqueue(self, waiter: _Waiter, key: str) -> None:
        queue_id = _queue_id(waiter.demand)
        queue = self._queues.setdefault(queue_id, FairQueue(self._max_waiting))
        try:
            evicted = queue.push(key, waiter, waiter.demand.tokens)
        except QueueFull:
            raise self._full(waiter.demand.model, len(queue)) from None
        if evicted is not None:
            evicted.refuse(self._full(waiter.demand.model, len(queue)))
        self._schedule()

    def _full(self, model: ModelName, length: int) -> Overloaded:
        retry_s = max(1, min(60, length // 64))
        return Overloaded(
            f"{length} requests for the model `{model}` are waiting, which is the limit",
            retry_after_s=retry_s,
        )

    def _dequeue(self, waiter: _Waiter, key: str) -> None:
        queue_id = _queue_id(waiter.demand)
        queue = self._queues.get(queue_id)
        if queue is None:
            return
        queue.discard(key, waiter)
        if not queue:
            del self._queues[queue_id]

    def _on_capacity(self, provider: Provider) -> None:
        """Hands out the room at this one provider: the others had none before.

        Thousands of providers beat every second: none of that may cost a look at all of them.
        """
        wanted = [
            queue_id
            for queue_id in self._queues
            if queue_id.model in provider.models and provider.account in queue_id.owners
        ]
        while wanted:
            wanted = [queue_id for queue_id in wanted if self._serve_next(queue_id, provider)]

    def _serve_next(self, queue_id: _QueueId, provider: Provider) -> bool:
        """Gives a queue its turn at a provider; the others then come before it."""
        queue = self._queues[queue_id]
        waiter = _next(queue)
        if waiter is None:
            return False
        reservation = self._registry.reserve_at(provider, waiter.demand)
        if reservation is None:
            return False
        queue.pop()
        waiter.reservation.set_result(reservation)
        self._queues[queue_id] = self._queues.pop(queue_id)
        return True

    def _pump(self, queue_id: _QueueId) -> None:
        """Makes reservations for those whose turn it is, until there is none for the next."""
        queue = self._queues[queue_id]
        while (waiter := _next(queue)) is not None:
            try:
                reservation = self._registry.reserve(waiter.demand, waiter.avoid)
            except Overloaded:
                return
            except TandemError as error:
                hopes = asyncio.get_running_loop().time() < waiter.until
                if isinstance(error, NoProviderAvailable) and hopes:
                    return
                queue.pop()
                waiter.refuse(error)
                continue
            queue.pop()
            waiter.reservation.set_result(reservation)

    def _schedule(self) -> None:
        if self._timer is None and self._queues:
            self._timer = asyncio.get_running_loop().call_later(_RECHECK_S, self._recheck)

    def _recheck(self) -> None:
        self._timer = None
        for queue_id in tuple(self._queues):
            self._pump(queue_id)
        self._schedule()


def _queue_id(demand: Demand) -> _QueueId:
    return _QueueId(demand.model, demand.min_trust, demand.owners)


def _next(queue: FairQueue[_Waiter]) -> _Waiter | None:
    """Whose turn it is, of those that still wait."""
    while (waiter := queue.peek()) is not None and waiter.reservation.done():
        queue.pop()
    return waiter
