"""One provider for each reason that there is not to send a request to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.registered import beat, join, make_registry

from tandem.coordinator.fleet.provider import Hold, Provider, Role
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import Reason
from tandem.coordinator.routing.registry import Registry
from tandem.protocol import ModelName, Trust

MODEL = ModelName("a")
SMALL = Demand(MODEL)


def full(provider: Provider) -> None:
    provider.in_flight, provider.sequences = 2, 2


def spoil(**changes: Any) -> Callable[[Provider], None]:  # noqa: ANN401 - any field
    def apply(provider: Provider) -> None:
        for field, value in changes.items():
            setattr(provider, field, value)

    return apply


#: What is wrong with a provider, the demand, and the reason that it must be.
REASONS: dict[Reason, tuple[Callable[[Provider], None], Demand]] = {
    Reason.OTHER_ACCOUNT: (lambda _: None, Demand(MODEL, owners=frozenset({"another"}))),
    Reason.OTHER_MODELS: (lambda _: None, Demand(ModelName("b"))),
    Reason.NOT_READY: (spoil(holds={Hold.NOT_READY}), SMALL),
    Reason.DRAINING: (spoil(holds={Hold.DRAINED}), SMALL),
    Reason.NOT_RANK_ZERO: (spoil(role=Role(rank=1)), SMALL),
    Reason.MALFORMED_ROLE: (spoil(role=Role(malformed=True)), SMALL),
    Reason.STALE: (spoil(last_heard=-5.0), SMALL),
    Reason.UNTRUSTED: (lambda _: None, Demand(MODEL, min_trust=Trust.HARDWARE)),
    Reason.TOO_SMALL: (lambda _: None, Demand(MODEL, least_tokens=2049)),
    Reason.FULL: (full, SMALL),
    Reason.SET_ASIDE: (lambda provider: provider.breaker.trip(0.0), SMALL),
}


def ready(registry: Registry, **more: Any) -> Provider:  # noqa: ANN401 - any field of a heartbeat
    """A provider of the model that may have any small request."""
    provider = join(registry, [MODEL])
    registry.heartbeat(provider, beat(**more))
    return provider


def ineligible(reason: Reason) -> tuple[Registry, Provider, Demand]:
    """A provider alone in its registry, and a demand that it may not have for this reason."""
    registry = make_registry()
    provider = ready(registry)
    wrong, demand = REASONS[reason]
    wrong(provider)
    return registry, provider, demand
