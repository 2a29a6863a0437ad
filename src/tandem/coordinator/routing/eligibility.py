"""Who may get a request: pure functions over provider records.

`eligibility` is asked by every path that chooses, counts or advertises providers, so that they
cannot disagree.
"""

from __future__ import annotations

from enum import StrEnum

from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.places import largest, places


class Reason(StrEnum):
    """Why a provider does not get a request."""

    OTHER_ACCOUNT = "it is of an account that does not share its machines with this one"
    OTHER_MODELS = "it does not serve the model"
    NOT_READY = "it has not said that it is ready"
    DRAINING = "it is draining"
    NOT_RANK_ZERO = "it is a rank of a cluster that rank 0 answers for"
    MALFORMED_ROLE = "its cluster role is malformed"
    STALE = "it has not been heard of lately"
    UNTRUSTED = "it has not proved enough of itself"
    TOO_SMALL = "its cache cannot hold the request"
    SET_ASIDE = "it has failed lately, and is being probed"
    FULL = "it has as many requests as it may have"


def eligibility(provider: Provider, demand: Demand, *, now: float) -> Reason | None:
    """Why a request may not go to this provider at `now` (monotonic seconds); None if it may.

    FULL and SET_ASIDE come last: they are said only of a provider that could serve otherwise.
    """
    if provider.account not in demand.owners:
        return Reason.OTHER_ACCOUNT
    info = provider.models.get(demand.model)
    if info is None:
        return Reason.OTHER_MODELS
    reason = _absence(provider, now)
    if reason is not None:
        return reason
    if not provider.trust.reaches(demand.min_trust):
        return Reason.UNTRUSTED
    if demand.at_least(info.max_token_bytes) > largest(demand.model, provider):
        return Reason.TOO_SMALL
    if not places(provider, demand) or now < provider.alone_until:
        return Reason.FULL
    if demand.alone and provider.beginning:
        return Reason.FULL
    if not provider.breaker.admits(now):
        return Reason.SET_ASIDE
    return None


def _absence(provider: Provider, now: float) -> Reason | None:
    """Why nobody's request may go there, whatever it asks for."""
    if provider.role.malformed:
        return Reason.MALFORMED_ROLE
    if provider.role.rank:
        return Reason.NOT_RANK_ZERO
    if provider.holds:
        return Reason.DRAINING if provider.is_draining else Reason.NOT_READY
    if now - provider.last_heard > provider.stale_after_s:
        return Reason.STALE
    return None
