"""Requests that wait for a reservation: bounded queues, fair between API keys.

There is one queue a model, level of trust and set of accounts whose machines may serve, so that
nobody waits behind a request that only others than his providers could serve. Room at a provider
goes to the key that has had least of the model, in whichever queue it waits.

A request that finds none waits for one when somebody who serves its model is busy, or was
there a moment ago: a provider that restarts is worth a few seconds. Whoever waits is served in the
order of `FairQueue`, as soon as any provider gets room. What is too large for the room that there
is may be overtaken, by as many tokens as it asks for itself; then one provider keeps its room.

Thousands of providers beat every second, and thousands of requests may wait: no event costs a look
at all of either.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Collection
from itertools import islice

import msgspec

from tandem.coordinator.fleet.losses import Loss, Losses
from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import Reason
from tandem.coordinator.routing.fair_queue import FairQueue, QueueFull
from tandem.coordinator.routing.places import has_room
from tandem.coordinator.routing.refusal import refusal
from tandem.coordinator.routing.registry import Registry
from tandem.coordinator.routing.reservation import Reservation
from tandem.coordinator.routing.shares import ModelShares, Shares
from tandem.coordinator.routing.waiting import (
    LOOKS,
    ModelQueues,
    Queue,
    QueueId,
    Waiter,
    heads_of,
    in_turn,
    turn_of,
)
from tandem.errors import NoProviderAvailable, Overloaded, RateLimited, ServiceStopping, TandemError
from tandem.protocol import ModelName, ProviderId

#: Some things change without an event: a pause of a breaker ends, a provider goes stale.
_RECHECK_S = 0.25
#: Queues times providers that are looked at then: of many queues some, the others the next time.
_LOOKS_AT_ONCE = 8192
#: Reasons that depend on the request: another one may go where it may not.
_OF_THE_REQUEST = {Reason.FULL, Reason.TOO_SMALL, Reason.UNTRUSTED}


class Admission:
    """`patience_s`: how long a request waits for the return of a provider that was just here.

    `max_waiting` is the most that wait in one queue, and the most of one key in all of them.
    """

    def __init__(self, registry: Registry, *, max_waiting: int, patience_s: float) -> None:
        self._registry = registry
        self._max_waiting = max_waiting
        self._patience_s = patience_s
        self._shares = Shares()
        self._models: dict[ModelName, ModelQueues] = {}
        self._waiting: Counter[str] = Counter()
        self._waiters: set[Waiter] = set()
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        registry.on_capacity(self._on_capacity)

    def waiting(self, model: ModelName, owners: frozenset[str]) -> int:
        """Those who wait for the model at the machines of just these accounts."""
        waits = self._models.get(model)
        if waits is None:
            return 0
        return sum(len(queue) for id_, queue in waits.queues.items() if id_.owners == owners)

    async def reserve(
        self,
        demand: Demand,
        key: str,
        avoid: Collection[ProviderId] = (),
        *,
        resumes: bool = False,
    ) -> Reservation:
        """A reservation for the request, at once or when its turn comes.

        One that `resumes` lost its own without its own fault. It goes before those that wait, and
        waits for a provider's return as long as the caller lets it.
        Raises what `Registry.reserve` raises, when waiting is of no use or the queue is
        full; the caller sets the deadline.
        """
        waits = self._models.get(demand.model)
        shares = self._shares_of(demand.model) if waits is None else waits.shares
        demand = msgspec.structs.replace(demand, key=key, leaves_room=shares.has_others(key))
        queue = None if waits is None else waits.queues.get(QueueId.of(demand))
        share = shares.of(key)
        if resumes or not queue:
            try:
                reservation = self._reserve_now(demand, avoid, waits)
            except TandemError as error:
                self._check_open()
                if not resumes:
                    self._check_hope(demand, error)
            else:
                share.lift(shares.level)
                shares.raise_level(share.used)
                reservation.charge_to(share)
                return reservation
        self._check_open()
        until = math.inf if resumes else asyncio.get_running_loop().time() + self._patience_s
        waiter = Waiter(demand, key, share, avoid, until)
        self._enqueue(waiter, shares, resumes=resumes)
        self._waiters.add(waiter)
        self._try_at_once(waiter)
        try:
            return await waiter.reservation
        except asyncio.CancelledError:
            made = waiter.reservation
            if made.done() and not made.cancelled() and made.exception() is None:
                made.result().release()
            raise
        finally:
            self._waiters.discard(waiter)
            self._dequeue(waiter)

    def close(self) -> None:
        """From now on nobody waits: who does is told at once, that it may go elsewhere."""
        self._closed = True
        for waiter in self._waiters:
            waiter.refuse(_stopping())

    @property
    def is_closed(self) -> bool:
        return self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise _stopping()

    @property
    def losses(self) -> Losses:
        """Of providers, lately."""
        return self._registry.losses

    def loss_of(self, provider: Provider) -> Loss | None:
        """What has just ended a request there, as an event that others may have met too."""
        self._registry.lost(provider, fatal=False)
        return self._registry.losses.of(provider.id)

    def sound_for_s(self, demand: Demand) -> float:
        """How long somebody who may have the request has been ready."""
        return self._registry.sound_for_s(demand)

    def has_other(self, demand: Demand, but: Collection[str]) -> bool:
        """Whether there is anybody who may have it, but for these machines."""
        return self._registry.has_other(demand, but)

    def _shares_of(self, model: ModelName) -> ModelShares:
        """Those of names that are a consumer's own invention are not kept."""
        return self._shares.of(model) if self._registry.knows(model) else ModelShares()

    def has_room(self, demand: Demand, but: Collection[str]) -> bool:
        """Whether anybody has room for it now, but for these machines."""
        return self._registry.has_room(demand, but)

    def _reserve_now(
        self, demand: Demand, avoid: Collection[ProviderId], waits: ModelQueues | None
    ) -> Reservation:
        """All providers are looked at for one request in a while, and a few for the others.

        Those find their place a moment later, if there is one.
        """
        now = asyncio.get_running_loop().time()
        thorough = waits is None or now >= waits.look_again_at
        try:
            return self._registry.reserve(demand, avoid, thorough=thorough)
        finally:
            if waits is not None and thorough:
                waits.look_again_at = now + self._recheck_s

    def _check_hope(self, demand: Demand, error: TandemError) -> None:
        """Raises the refusal unless somebody is busy, or was here lately."""
        if isinstance(error, Overloaded):
            return
        absent = isinstance(error, NoProviderAvailable)
        if not absent or self._registry.served_within_s(demand) > self._patience_s:
            raise error

    def _enqueue(self, waiter: Waiter, shares: ModelShares, *, resumes: bool) -> None:
        waits = self._models.setdefault(waiter.demand.model, ModelQueues(shares))
        new = FairQueue[Waiter](self._max_waiting, shares.level)
        queue = waits.queues.setdefault(QueueId.of(waiter.demand), new)
        if queue and not resumes and not self._registry.may_fit(waiter.demand):
            largest = self._registry.largest(waiter.demand.model)
            raise refusal(waiter.demand, {Reason.TOO_SMALL}, model_is_known=True, largest=largest)
        if resumes:
            queue.push_ahead(waiter.share, waiter)
        else:
            self._push(queue, waiter)
        self._waiting[waiter.key] += 1
        self._schedule()

    def _push(self, queue: Queue, waiter: Waiter) -> None:
        own = self._waiting[waiter.key]
        if own >= self._max_waiting and len(queue) < self._max_waiting:
            raise RateLimited(f"this key has {own} requests waiting, which is its limit")
        try:
            evicted = queue.push(waiter.key, waiter.share, waiter)
        except QueueFull:
            raise self._full(waiter.demand.model, len(queue)) from None
        if evicted is not None:
            evicted.refuse(self._full(waiter.demand.model, len(queue)))

    def _full(self, model: ModelName, length: int) -> Overloaded:
        retry_s = max(1, min(60, length // 64))
        return Overloaded(
            f"{length} requests for the model `{model}` are waiting, which is the limit",
            retry_after_s=retry_s,
        )

    def _dequeue(self, waiter: Waiter) -> None:
        self._waiting[waiter.key] -= 1
        if not self._waiting[waiter.key]:
            del self._waiting[waiter.key]
        waits, id_ = self._models.get(waiter.demand.model), QueueId.of(waiter.demand)
        queue = None if waits is None else waits.queues.get(id_)
        if waits is None or queue is None:
            return
        queue.discard(waiter.key, waiter)
        if not queue:
            del waits.queues[id_]

    def _on_capacity(self, provider: Provider) -> None:
        """Hands out the room at this one provider: the others had none before."""
        for model in provider.models:
            waits = self._models.get(model)
            if waits is not None:
                while has_room(provider) and waits.queues and self._hand_out(provider, waits):
                    pass

    def _hand_out(self, provider: Provider, waits: ModelQueues) -> bool:
        """Gives one request a place at the provider; whether there was one to give."""
        passed: list[Waiter] = []
        for waiter in in_turn(waits, provider.account):
            made = self._registry.reserve_at(provider, turn_of(waiter.demand, waits))
            if isinstance(made, Reservation):
                self._give(waiter, made, waits)
                for other in passed:
                    other.overtaken += waiter.demand.tokens
                return True
            if made not in _OF_THE_REQUEST:
                return False
            if made is Reason.FULL:
                if self._keeps(provider, waiter):
                    return False
                passed.append(waiter)
        return False

    def _try_at_once(self, waiter: Waiter) -> None:
        """Room that those before have left is theirs no more: it is too small, or not for them."""
        waits, id_ = self._models[waiter.demand.model], QueueId.of(waiter.demand)
        before: list[Waiter] = []
        for _, other in heads_of(waits.queues[id_], LOOKS):
            if other is waiter:
                break
            before.append(other)
        else:
            return
        demand, kept = turn_of(waiter.demand, waits), [other.kept_by for other in before]
        try:
            provider = self._registry.select_provider(demand, waiter.avoid, thorough=False)
        except TandemError:
            return  # it waits, and hears why when it is its turn
        made = None if provider in kept else self._registry.reserve_at(provider, demand)
        if isinstance(made, Reservation):
            self._give(waiter, made, waits)
            for other in before:
                other.overtaken += demand.tokens

    def _keeps(self, provider: Provider, waiter: Waiter) -> bool:
        """Whether nobody overtakes the one who waits any more, here."""
        least = waiter.demand.part(waiter.demand.least_sequences)
        if waiter.overtaken < least.tokens:
            return False
        if waiter.kept_by is None or not self._registry.may_have_more(waiter.kept_by):
            waiter.kept_by = provider
        return waiter.kept_by is provider

    def _give(self, waiter: Waiter, reservation: Reservation, waits: ModelQueues) -> None:
        waits.shares.raise_level(waiter.share.used)
        waits.queues[QueueId.of(waiter.demand)].take(waiter.key, waiter)
        reservation.charge_to(waiter.share)
        waiter.reservation.set_result(reservation)

    def _pump(self, waits: ModelQueues, queue: Queue) -> None:
        """Has all providers looked at for those whose turn it is, until there is none for one."""
        for _ in range(LOOKS):
            heads = heads_of(queue, 1)
            if not heads:
                return
            waiter = heads[0][1]
            try:
                demand = turn_of(waiter.demand, waits)
                reservation = self._registry.reserve(demand, waiter.avoid)
            except Overloaded:
                return
            except NoProviderAvailable as error:
                # Somebody who was here meanwhile may be so again.
                if self._registry.served_within_s(waiter.demand) > self._patience_s:
                    _refuse_hopeless(queue, error)
                return
            except TandemError as error:
                if waiter.until == math.inf:
                    return  # it had its place, so somebody can serve it who is away just now
                queue.discard(waiter.key, waiter)
                waiter.refuse(error)
                return
            self._give(waiter, reservation, waits)

    @property
    def _recheck_s(self) -> float:
        """Of many providers less often: each time all of them are looked at."""
        return _RECHECK_S * self._registry.pace

    def _schedule(self) -> None:
        if self._timer is None and self._models:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._recheck_s, self._recheck)

    def _recheck(self) -> None:
        self._timer = None
        for model, waits in tuple(self._models.items()):
            most = _LOOKS_AT_ONCE // max(1, self._registry.serving(model))
            for id_ in tuple(islice(waits.queues, max(1, most))):
                self._pump(waits, waits.queues[id_])
                if queue := waits.queues.pop(id_):
                    waits.queues[id_] = queue  # behind the others
            if not waits.queues:
                del self._models[model]
        self._schedule()


def _refuse_hopeless(queue: Queue, error: NoProviderAvailable) -> None:
    """Ends all who have waited long enough for somebody to come back: nobody is there for them."""
    now = asyncio.get_running_loop().time()
    for waiter in queue.items():
        if waiter.until <= now:
            queue.discard(waiter.key, waiter)
            waiter.refuse(error)


def _stopping() -> ServiceStopping:
    return ServiceStopping("the service is stopping: retry in a moment")
