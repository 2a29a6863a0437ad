"""Who gets a request: the provider that is expected to have answered first. Pure functions."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping

import msgspec

from tandem.coordinator.fleet.many import pools
from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing.affinity import Cached
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import Reason, eligibility
from tandem.protocol import ModelInfo, ModelName, ProviderId

#: Reasons that end by themselves: who is refused for one of them only may wait.
_BUSY = {Reason.FULL, Reason.SET_ASIDE}


class Capacity(msgspec.Struct, frozen=True):
    """What a small request for a model would find now.

    `routable`: could serve if they had room; `warm`: have it loaded, whatever else; `first_s`: the
    expected time to a first token at the best provider with room.
    """

    info: ModelInfo
    routable: int
    warm: int
    free: int
    first_s: float | None


def choose(
    serving: Mapping[ProviderId, Provider],
    demand: Demand,
    *,
    now: float,
    draw: random.Random,
    cached: Cached | None = None,
    avoid: Collection[ProviderId] = (),
    thorough: bool = True,
) -> Provider | None:
    """The best of those that serve the model and may have the request; None when nobody may.

    One that is not `thorough` looks at a few of many providers, and at no others.

    `cached` says who has the beginning of the prompt. Those to `avoid` are taken only when there is
    no other. When everybody who could serve has been set aside, one of them is asked all the same.
    """
    for pool in pools(serving, None if cached is None else cached.provider, draw):
        reasons = [eligibility(provider, demand, now=now) for provider in pool]
        candidates = _open(pool, reasons, desperate=len(pool) == len(serving))
        preferred = [p for p in candidates if p.id not in avoid] or candidates
        if preferred:
            return _best(preferred, demand, cached)
        if not thorough:
            return None
    return None


def could_serve(reason: Reason | None) -> bool:
    """Whether a provider that says this of a request can take it, now or when it has room."""
    return reason is None or reason in _BUSY


def capacity(
    serving: Mapping[ProviderId, Provider],
    model: ModelName,
    owners: frozenset[str],
    *,
    now: float,
) -> Capacity | None:
    """Of a model, at the machines of these accounts; None when none of them serves it."""
    demand = Demand(model, owners=owners)
    pool = [provider for provider in serving.values() if provider.account in owners]
    if not pool:
        return None
    reasons = [eligibility(provider, demand, now=now) for provider in pool]
    free = _open(pool, reasons, desperate=True)
    return Capacity(
        info=pool[0].models[model],
        routable=sum(map(could_serve, reasons)),
        warm=sum(provider.is_warm for provider in pool),
        free=len(free),
        first_s=min((expected_s(provider, demand, 0.0)[0] for provider in free), default=None),
    )


def expected_s(provider: Provider, demand: Demand, cached: float) -> tuple[float, float]:
    """Expected seconds to the first token and to the last, if the request went there now.

    `cached` is the share of the prompt that is thought to be in the provider's cache.
    """
    speed = provider.speed(demand.model)
    to_prefill = provider.prefilling + demand.prompt_tokens * (1.0 - cached)
    batch = provider.sequences + demand.sequences
    step_s = 1.0 / speed.decode_per_s(batch)
    first_s = to_prefill / speed.prefill_per_s + step_s
    return first_s, first_s + demand.output_tokens * step_s


def _open(pool: list[Provider], reasons: list[Reason | None], *, desperate: bool) -> list[Provider]:
    """Those that may have a request; if nobody may and it is `desperate`, those set aside."""
    eligible = [p for p, reason in zip(pool, reasons, strict=True) if reason is None]
    if eligible or not desperate:
        return eligible
    return [p for p, reason in zip(pool, reasons, strict=True) if reason is Reason.SET_ASIDE]


def _best(candidates: Iterable[Provider], demand: Demand, cached: Cached | None) -> Provider:
    """The first to have answered, of equals the least busy, of those the one chosen longest ago."""

    def key(provider: Provider) -> tuple[float, int, int]:
        share = cached.share if cached is not None and cached.provider == provider.id else 0.0
        _, whole_s = expected_s(provider, demand, share)
        return whole_s, provider.in_flight, provider.last_chosen

    return min(candidates, key=key)
