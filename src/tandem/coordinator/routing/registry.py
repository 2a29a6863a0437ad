"""The providers that are connected, and reservations on them.

Everything here runs on the event loop without awaiting, so each method is atomic. Every method
that chooses, counts or lists providers asks `routing.eligibility`.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Collection, Iterable

import msgspec

from tandem.coordinator.fleet.breaker import Breaker
from tandem.coordinator.fleet.link import ProviderLink
from tandem.coordinator.fleet.provider import NOT_CLUSTERED, Provider, read_role
from tandem.coordinator.routing.affinity import Affinity
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import (
    Eligible,
    Reason,
    eligibility,
    expected_s,
)
from tandem.coordinator.routing.reservation import Reservation
from tandem.errors import (
    ContextLengthExceeded,
    ModelNotFound,
    NoProviderAvailable,
    Overloaded,
    ProtocolError,
    TandemError,
)
from tandem.protocol import Heartbeat, ModelInfo, ModelName, ProviderId, Registration, Trust

#: Names that are remembered after their last provider has gone: for them 503, not 404.
_MAX_KNOWN_MODELS = 4096
_MAX_NAME_LENGTH = 256
_MAX_MODELS = 64
_MAX_ADDRESSES = 16
#: Machines whose failures are remembered while they are away.
_MAX_BREAKERS = 16_384
#: Among more providers than this, so many are drawn and the best of them is taken.
_SCANNED, _DRAWN = 32, 12
_USUAL_FLEET = 1000
_NEVER = float("-inf")
#: When these are all there are, no time will make the request fit.
_NEVER_FITS = {Reason.TOO_SMALL, Reason.NOT_RANK_ZERO, Reason.MALFORMED_ROLE}
#: Reasons that end by themselves: who is refused for one of them only may wait.
_BUSY = {Reason.FULL, Reason.SET_ASIDE}


class Capacity(msgspec.Struct, frozen=True):
    """What a reservation of a model would find now.

    `routable`: could serve if they had room; `warm`: have it loaded, whatever else; `first_s`: the
    expected time to a first token at the best provider with room.
    """

    info: ModelInfo
    routable: int
    warm: int
    free: int
    first_s: float | None


class Registry:
    def __init__(
        self,
        *,
        stale_after_s: float,
        max_providers: int,
        clock: Callable[[], float] = time.monotonic,
        draw: random.Random | None = None,
    ) -> None:
        #: Called with a provider that may have got room, or come back.
        self.on_capacity: Callable[[Provider], None] = lambda _: None
        self._stale_after_s = stale_after_s
        self._max_providers = max_providers
        self._clock = clock
        self._draw = draw or random.Random()  # noqa: S311 - spreads load, guards nothing
        self._affinity = Affinity()
        self._providers: dict[ProviderId, Provider] = {}
        self._by_model: dict[ModelName, dict[ProviderId, Provider]] = {}
        self._known: dict[ModelName, float] = {}  # when it was last served
        self._breakers: dict[str, Breaker] = {}
        self._choices = 0

    @property
    def providers(self) -> list[Provider]:
        """All that are connected, in the order in which they came."""
        return list(self._providers.values())

    @property
    def affinity(self) -> Affinity:
        return self._affinity

    @property
    def pace(self) -> float:
        """How many times slower than usual a provider that joins now is to send heartbeats.

        So that those of a large fleet cost no more than those of a thousand.
        """
        return max(1.0, len(self._providers) / _USUAL_FLEET)

    def add(
        self,
        registration: Registration,
        link: ProviderLink,
        *,
        account: str,
        node_id: str | None,
        trust: Trust,
    ) -> Provider:
        """Takes a provider in. Raises ProtocolError or Overloaded."""
        if len(self._providers) >= self._max_providers:
            raise Overloaded(f"{self._max_providers} providers are connected, which is the limit")
        _check_registration(registration)
        provider = Provider(
            id=ProviderId(f"prov-{secrets.token_hex(8)}"),
            registration=registration,
            link=link,
            last_heard=self._clock(),
            stale_after_s=self._stale_after_s * self.pace,
            account=account,
            node_id=node_id,
            trust=trust,
            breaker=self._breaker_of(node_id),
        )
        self._providers[provider.id] = provider
        for name in provider.models:
            self._by_model.setdefault(name, {})[provider.id] = provider
        return provider

    def remove(self, provider: Provider) -> None:
        if self._providers.pop(provider.id, None) is None:
            return
        for name in provider.models:
            del self._by_model[name][provider.id]
            if not self._by_model[name]:
                del self._by_model[name]

    def heard(self, provider: Provider) -> None:
        provider.last_heard = self._clock()

    def heartbeat(self, provider: Provider, load: Heartbeat) -> None:
        """Takes in what a provider says of itself. A changed role counts from here on."""
        now = self._clock()
        before = provider.load
        if before is None or before.steps != load.steps or not (load.running or load.waiting):
            provider.moved_at = now
        provider.load = load
        provider.role = read_role(load.cluster_role)
        serves = load.ready and provider.role.answers
        for name in provider.models:
            if serves or len(self._known) < _MAX_KNOWN_MODELS:
                self._known[name] = now if serves else self._known.get(name, _NEVER)
        self.on_capacity(provider)

    def set_aside(self, provider: Provider) -> None:
        """Sends nothing there until a probe has come back."""
        provider.breaker.trip(self._clock())

    def drain(self, provider: Provider, *, drained: bool) -> None:
        """Sends nothing new to a provider, or lets it have requests again."""
        provider.drained = drained
        self.on_capacity(provider)

    def silent_for_s(self, provider: Provider) -> float:
        return self._clock() - provider.last_heard

    def hangs_for_s(self, provider: Provider) -> float:
        """How long the engine has had work and not ended a step; 0 when it has none."""
        if provider.in_flight == 0 or provider.load is None or not provider.load.ready:
            provider.moved_at = self._clock()
        return self._clock() - provider.moved_at

    def knows(self, model: str) -> bool:
        """Whether any provider has ever named this model."""
        return model in self._known

    def served_within_s(self, model: ModelName) -> float:
        """How long ago a provider last said that it is ready for the model."""
        return self._clock() - self._known.get(model, _NEVER)

    def find_provider_with_trust(
        self, demand: Demand, avoid: Collection[ProviderId] = ()
    ) -> Provider:
        """The provider that is expected to have answered first, of those that may be asked.

        Those to `avoid` are taken only when there is no other. When everybody who could serve has
        been set aside, one of them is asked all the same. Raises ModelNotFound (404) when nobody is
        known to serve the model, ContextLengthExceeded (400) when no cache could hold the request,
        Overloaded (429) when all who could are full, NoProviderAvailable (503) otherwise.
        """
        serving = list(self._by_model.get(demand.model, {}).values())
        seen = self._affinity.cached(demand.prefixes)
        for pool in self._pools(serving, seen):
            reasons = [self._reason(provider, demand) for provider in pool]
            found = _open(pool, reasons, desperate=len(pool) == len(serving))
            chosen = self._best(found, demand, avoid, seen)
            if chosen is not None:
                return chosen
        raise self._refusal(demand)

    def reserve_provider(self, demand: Demand, avoid: Collection[ProviderId] = ()) -> Reservation:
        """A reservation at the best provider; raises what `find_provider_with_trust` raises."""
        return self._reserve(self.find_provider_with_trust(demand, avoid), demand)

    def reserve_at(self, provider: Provider, demand: Demand) -> Reservation | None:
        """At this very provider; None when it may not have the request, or has gone."""
        if self._providers.get(provider.id) is not provider or self._reason(provider, demand):
            return None
        return self._reserve(provider, demand)

    def _reserve(self, provider: Provider, demand: Demand) -> Reservation:
        self._choices += 1
        provider.last_chosen = self._choices
        self._affinity.remember(demand.prefixes, provider.id)
        return Reservation(provider, demand, self._clock, self.on_capacity)

    def quick_capacity_check(self, demand: Demand) -> None:
        """Raises what a reservation would raise now."""
        self.find_provider_with_trust(demand)

    def model_capacity_snapshot(self) -> dict[ModelName, Capacity]:
        """What a small request for each model would find now."""
        return {name: self._capacity(name, pool.values()) for name, pool in self._by_model.items()}

    def cluster_peers(self, account: str) -> list[Provider]:
        """The account's machines that could form a cluster: known, and in none yet."""
        now = self._clock()
        taken = {member for p in self._providers.values() if p.load for member in p.load.members}
        return [
            provider
            for provider in self._providers.values()
            if provider.account == account
            and provider.node_id is not None
            and provider.node_id not in taken
            and provider.role == NOT_CLUSTERED
            and now - provider.last_heard <= provider.stale_after_s
        ]

    def _breaker_of(self, node_id: str | None) -> Breaker:
        """A machine that comes back has its failures with it."""
        if node_id is None:
            return Breaker()
        breaker = self._breakers.pop(node_id, None) or Breaker()
        self._breakers[node_id] = breaker  # the newest last
        while len(self._breakers) > _MAX_BREAKERS:
            del self._breakers[next(iter(self._breakers))]
        return breaker

    def _pools(
        self, serving: list[Provider], seen: tuple[ProviderId, float] | None
    ) -> Iterable[list[Provider]]:
        """A few drawn at random (Mitzenmacher, 2001), then all of them; all at once if few."""
        if len(serving) > _SCANNED:
            drawn = self._draw.sample(serving, _DRAWN)
            known = None if seen is None else self._providers.get(seen[0])
            yield drawn if known is None else [*drawn, known]
        yield serving

    def _best(
        self,
        found: list[Provider],
        demand: Demand,
        avoid: Collection[ProviderId],
        seen: tuple[ProviderId, float] | None,
    ) -> Provider | None:
        others = [p for p in found if p.id not in avoid] or found
        if not others:
            return None

        def key(provider: Provider) -> tuple[float, int, int]:
            cached = seen[1] if seen is not None and seen[0] == provider.id else 0.0
            _, total_s = expected_s(provider, demand, cached)
            return total_s, provider.in_flight, provider.last_chosen

        return min(others, key=key)

    def _capacity(self, name: ModelName, serving: Iterable[Provider]) -> Capacity:
        pool = list(serving)
        demand = Demand(name)
        reasons = [self._reason(provider, demand) for provider in pool]
        free = _open(pool, reasons, desperate=True)
        return Capacity(
            info=pool[0].models[name],
            routable=sum(reason is None or reason in _BUSY for reason in reasons),
            warm=sum(p.load is not None and p.load.ready for p in pool),
            free=len(free),
            first_s=min((expected_s(p, demand, 0.0)[0] for p in free), default=None),
        )

    def _reason(self, provider: Provider, demand: Demand) -> Reason | None:
        answer = eligibility(provider, demand, now=self._clock())
        return None if isinstance(answer, Eligible) else answer.reason

    def _refusal(self, demand: Demand) -> TandemError:
        serving = self._by_model.get(demand.model, {}).values()
        reasons = {reason for p in serving if (reason := self._reason(p, demand)) is not None}
        model = demand.model
        if Reason.TOO_SMALL in reasons and reasons <= _NEVER_FITS:
            return ContextLengthExceeded(
                f"no provider of the model `{model}` can hold {demand.least_tokens} tokens: lower"
                " max_tokens",
                param="max_tokens",
            )
        if Reason.FULL in reasons:
            return Overloaded(f"every provider of the model `{model}` is busy: retry in a moment")
        if reasons or model in self._known:
            why = "; ".join(sorted(reasons)) or "its last provider has gone"
            return NoProviderAvailable(f"nobody can serve the model `{model}` now: {why}")
        return ModelNotFound(
            f"the model `{model}` does not exist: GET /v1/models lists those that do",
            param="model",
        )


def _open(pool: list[Provider], reasons: list[Reason | None], *, desperate: bool) -> list[Provider]:
    """Those that may have a request; if nobody may and it is `desperate`, those set aside."""
    found = [p for p, reason in zip(pool, reasons, strict=True) if reason is None]
    if found or not desperate:
        return found
    return [p for p, reason in zip(pool, reasons, strict=True) if reason is Reason.SET_ASIDE]


def _check_registration(registration: Registration) -> None:
    names = [model.name for model in registration.models]
    if not names or len(names) > _MAX_MODELS or len(set(names)) != len(names):
        raise ProtocolError(f"registration.models must name 1 to {_MAX_MODELS} different models")
    if len(registration.link_addresses) > _MAX_ADDRESSES:
        raise ProtocolError(f"registration.link_addresses has at most {_MAX_ADDRESSES}")
    texts = (registration.name, registration.software, *names, *registration.link_addresses)
    for text in texts:
        if not 0 < len(text) <= _MAX_NAME_LENGTH:
            raise ProtocolError(f"names in a registration have 1 to {_MAX_NAME_LENGTH} characters")
