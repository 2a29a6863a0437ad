"""The providers that are connected, and reservations on them.

Everything here runs on the event loop without awaiting, so each method is atomic. Who may have a
request is said in `eligibility`, who gets it in `choice`, and why nobody does in `refusal`.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Collection
from functools import partial

import msgspec

from tandem.coordinator.fleet.breaker import BreakerMemory
from tandem.coordinator.fleet.challenges import Attested
from tandem.coordinator.fleet.link import ProviderLink
from tandem.coordinator.fleet.losses import Loss, Losses
from tandem.coordinator.fleet.many import heartbeat_pace, is_crowd
from tandem.coordinator.fleet.model_history import ModelHistory
from tandem.coordinator.fleet.provider import Hold, Provider, read_role
from tandem.coordinator.fleet.readers import ConnectedNodes
from tandem.coordinator.fleet.unclustered import unclustered
from tandem.coordinator.routing.affinity import Affinity
from tandem.coordinator.routing.choice import Capacity, capacity, choose, could_serve
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import Reason, eligibility
from tandem.coordinator.routing.places import largest, places
from tandem.coordinator.routing.refusal import refusal
from tandem.coordinator.routing.reservation import Reservation
from tandem.errors import Overloaded
from tandem.protocol import Heartbeat, ModelName, ProviderId, Registration, cluster_role

#: How long what the largest provider holds is remembered, so that it is not asked for each request.
_LARGEST_LASTS_S = 1.0


class Registry:
    def __init__(
        self,
        *,
        stale_after_s: float,
        max_providers: int,
        clock: Callable[[], float] = time.monotonic,
        draw: random.Random | None = None,
    ) -> None:
        self.affinity = Affinity()
        self.losses = Losses()
        self._stale_after_s = stale_after_s
        self._max_providers = max_providers
        self._clock = clock
        self._draw = draw or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._providers: dict[ProviderId, Provider] = {}
        self._by_model: dict[ModelName, dict[ProviderId, Provider]] = {}
        self._nodes = ConnectedNodes()
        self._shut_out: frozenset[str] = frozenset()
        self._history = ModelHistory()
        self._breakers = BreakerMemory()
        self._largest: dict[ModelName, tuple[float, int]] = {}
        self._listeners: list[Callable[[Provider], None]] = []
        self._choices = 0

    def __len__(self) -> int:
        """How many are connected."""
        return len(self._providers)

    @property
    def providers(self) -> list[Provider]:
        """All that are connected, in the order in which they came."""
        return list(self._providers.values())

    @property
    def pace(self) -> float:
        """How many times slower than usual a provider that joins now is to send heartbeats."""
        return heartbeat_pace(len(self))

    def on_capacity(self, listener: Callable[[Provider], None]) -> None:
        """Has a listener called with each provider that may have got room, or come back."""
        self._listeners.append(listener)

    def add(
        self,
        registration: Registration,
        link: ProviderLink,
        *,
        account: str,
        node_id: str | None,
        attested: Attested,
    ) -> Provider:
        """Takes a provider in. Raises Overloaded."""
        if len(self) >= self._max_providers:
            raise Overloaded(f"{self._max_providers} providers are connected, which is the limit")
        provider = Provider(
            id=ProviderId(f"prov-{secrets.token_hex(8)}"),
            registration=registration,
            link=link,
            last_heard=self._clock(),
            stale_after_s=self._stale_after_s * self.pace,
            account=account,
            attested=attested,
            node_id=node_id,
            breaker=self._breakers.of(node_id or f"{account}/{registration.name}"),
            nodes=self._nodes,
        )
        self._providers[provider.id] = provider
        self._nodes.prove(node_id, provider.id, attested.trust)
        for name in provider.models:
            self._by_model.setdefault(name, {})[provider.id] = provider
        return provider

    def remove(self, provider: Provider) -> None:
        if self._providers.pop(provider.id, None) is None:
            return
        self._nodes.forget(provider.node_id, provider.id)
        for name in provider.models:
            del self._by_model[name][provider.id]
            if not self._by_model[name]:
                del self._by_model[name]
                self._largest.pop(name, None)

    def heard(self, provider: Provider) -> None:
        provider.last_heard = self._clock()

    def heartbeat(self, provider: Provider, beat: Heartbeat) -> None:
        """Takes in what a provider says of itself. A changed role counts from here on."""
        now, last = self._clock(), provider.heartbeat
        if last is None or last.steps != beat.steps or not (beat.running or beat.waiting):
            provider.moved_at = now
        provider.role = read_role(beat.cluster_role)
        # What is still encoded would keep all of its message in memory.
        provider.heartbeat = msgspec.structs.replace(beat, cluster_role=cluster_role(None))
        self._look_at_readers(provider)
        if beat.ready:
            provider.holds.discard(Hold.NOT_READY)
            provider.ready_since = provider.ready_since or now
        else:
            if provider.is_warm:
                self.lost(provider, fatal=False)
            provider.holds.add(Hold.NOT_READY)
            provider.ready_since = None
        served = beat.ready and provider.role.answers
        self._history.saw(provider.account, provider.models, now, served=served)
        self._tell(provider)

    def attest(self, provider: Provider, attested: Attested) -> None:
        """Takes in a newer proof, and the trust that it earns."""
        provider.attested = attested
        self._nodes.prove(provider.node_id, provider.id, attested.trust)

    def shut_out(self, nodes: frozenset[str]) -> list[Provider]:
        """Machines that are to read nothing: who has one in its cluster gets nothing new.

        Those of whom that is news.
        """
        self._shut_out = nodes
        return [p for p in self._providers.values() if self._look_at_readers(p)]

    def _look_at_readers(self, provider: Provider) -> bool:
        """Whether the provider is held from now on, and was not until now."""
        was_held = Hold.SHUT_OUT in provider.holds
        if self._shut_out.isdisjoint(provider.readers):
            provider.holds.discard(Hold.SHUT_OUT)
            return False
        provider.holds.add(Hold.SHUT_OUT)
        return not was_held

    def hold(self, provider: Provider, why: Hold) -> None:
        """Sends nothing new to a provider."""
        provider.holds.add(why)

    def lift(self, provider: Provider, why: Hold) -> None:
        """Ends a hold: unless there is another, the provider may have requests again."""
        provider.holds.discard(why)
        self._tell(provider)

    def set_aside(self, provider: Provider) -> None:
        """Sends nothing there until a probe has come back."""
        provider.breaker.trip(self._clock())

    def lost(self, provider: Provider, *, fatal: bool) -> None:
        """It has gone (`fatal`), hung or failed a step. One that has said that it stops may."""
        if Hold.LEAVING in provider.holds:
            return
        now, since = self._clock(), provider.ready_since
        lived_s = 0.0 if since is None else now - since
        self.losses.note(Loss(now, provider.id, provider.beginning, lived_s, fatal))

    def sound_for_s(self, demand: Demand) -> float:
        """How long somebody who may have the request, now or when there is room, has been ready."""
        now = self._clock()
        since = [
            provider.ready_since
            for provider in self._by_model.get(demand.model, {}).values()
            if provider.ready_since is not None
            and could_serve(eligibility(provider, demand, now=now))
        ]
        return now - min(since, default=now)

    def has_other(self, demand: Demand, but: Collection[str]) -> bool:
        """Whether anybody but these machines may have the request, now or when there is room."""
        now = self._clock()
        return any(
            provider.machine not in but and could_serve(eligibility(provider, demand, now=now))
            for provider in self._by_model.get(demand.model, {}).values()
        )

    def has_room(self, demand: Demand, but: Collection[str]) -> bool:
        """Whether anybody but these machines may have the request now."""
        now = self._clock()
        return any(
            provider.machine not in but and eligibility(provider, demand, now=now) is None
            for provider in self._by_model.get(demand.model, {}).values()
        )

    def silent_for_s(self, provider: Provider) -> float:
        return self._clock() - provider.last_heard

    def hangs_for_s(self, provider: Provider) -> float:
        """How long the engine has had work and not ended a step; 0 when it has none."""
        if provider.in_flight == 0 or not provider.is_warm:
            provider.moved_at = self._clock()
        return self._clock() - provider.moved_at

    def knows(self, model: str) -> bool:
        """Whether any provider has ever named this model."""
        return self._history.knows(model)

    def served_within_s(self, demand: Demand) -> float:
        """How long ago a provider that may serve it last said that it is ready for the model."""
        return self._clock() - self._history.served_at(demand.model, demand.owners)

    def select_provider(
        self, demand: Demand, avoid: Collection[ProviderId] = (), *, thorough: bool = True
    ) -> Provider:
        """The provider that a request would get now; raises what `refusal` makes of it.

        See `choice.choose` for the rule. One that is not `thorough` says Overloaded when the few
        of many that it looks at have no room.
        """
        serving, now = self._by_model.get(demand.model, {}), self._clock()
        thorough = thorough or not is_crowd(serving)
        chosen = choose(
            serving,
            demand,
            now=now,
            draw=self._draw,
            cached=self.affinity.cached(demand.prefixes),
            avoid=avoid,
            thorough=thorough,
        )
        if chosen is None:
            if not thorough:
                raise refusal(demand, {Reason.FULL}, model_is_known=True)
            answers = {eligibility(p, demand, now=now) for p in serving.values()}
            # Machines of others are none, to who asks.
            reasons: set[Reason] = {r for r in answers if r is not None}
            reasons.discard(Reason.OTHER_ACCOUNT)
            known = self._history.knows(demand.model, demand.owners)
            own = (p for p in serving.values() if p.account in demand.owners)
            most = max(map(partial(largest, demand.model), own), default=0)
            raise refusal(demand, reasons, model_is_known=known, largest=most)
        return chosen

    def reserve(
        self, demand: Demand, avoid: Collection[ProviderId] = (), *, thorough: bool = True
    ) -> Reservation:
        """A reservation at the best provider; raises what `select_provider` raises."""
        return self._reserve(self.select_provider(demand, avoid, thorough=thorough), demand)

    def reserve_at(self, provider: Provider, demand: Demand) -> Reservation | Reason:
        """One at this very provider, or why it may not have the request; gone is STALE."""
        if self._providers.get(provider.id) is not provider:
            return Reason.STALE
        reason = eligibility(provider, demand, now=self._clock())
        return self._reserve(provider, demand) if reason is None else reason

    def may_have_more(self, provider: Provider) -> bool:
        """Whether it is connected, and may have further requests once it has room."""
        return self._providers.get(provider.id) is provider and provider.is_ready

    def serving(self, model: ModelName) -> int:
        """How many name the model, of whatever account, ready or not."""
        return len(self._by_model.get(model, ()))

    def may_fit(self, demand: Demand) -> bool:
        """Whether somebody is large enough for it, or nobody can tell."""
        return demand.least_tokens <= (self.largest(demand.model) or demand.least_tokens)

    def largest(self, model: ModelName) -> int:
        """Tokens that one sequence may have at most at any provider, as of a moment ago.

        0 when that is not known.
        """
        now = self._clock()
        seen = self._largest.get(model)
        if seen is None or now - seen[0] > _LARGEST_LASTS_S * self.pace or not seen[1]:
            most = max(
                map(partial(largest, model), self._by_model.get(model, {}).values()), default=0
            )
            if not most:
                return 0
            seen = self._largest[model] = (now, most)
        return seen[1]

    def anybody_serves(self) -> bool:
        """Whether some provider can take a small request for a model of its own, now or soon."""
        now = self._clock()
        return any(
            could_serve(eligibility(p, Demand(model, owners=frozenset({p.account})), now=now))
            for p in self._providers.values()
            for model in p.models
        )

    def capacities(self, owners: frozenset[str] | None = None) -> dict[ModelName, Capacity]:
        """What a small request would find now, for each model that these accounts serve, or all."""
        now = self._clock()
        if owners is None:
            owners = frozenset(provider.account for provider in self._providers.values())
        found = {
            name: capacity(pool, name, owners, now=now) for name, pool in self._by_model.items()
        }
        return {name: served for name, served in found.items() if served is not None}

    def unclustered(self, account: str) -> list[Provider]:
        """The account's machines that could form a cluster."""
        return unclustered(self._providers.values(), account, now=self._clock())

    def _reserve(self, provider: Provider, demand: Demand) -> Reservation:
        self._choices += 1
        provider.last_chosen = self._choices
        self.affinity.remember(demand.prefixes, provider.id)
        begun = demand.part(max(demand.least_sequences, places(provider, demand)))
        return Reservation(provider, begun, self._clock, self._tell)

    def _tell(self, provider: Provider) -> None:
        for listener in self._listeners:
            listener(provider)
