"""Who may get a request, and who does: pure functions over provider records.

`eligibility` is asked by every path that chooses, counts or advertises providers, so that they
cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from tandem.coordinator.provider import Provider
from tandem.protocol import ModelName


class Reason(StrEnum):
    """Why a provider does not get a request."""

    OTHER_MODELS = "it does not serve the model"
    NOT_READY = "it has not said that it is ready"
    DRAINING = "it is draining"
    NOT_RANK_ZERO = "it is a rank of a cluster that rank 0 answers for"
    MALFORMED_ROLE = "its cluster role is malformed"
    STALE = "it has not been heard of lately"
    FULL = "it has as many requests as it may have"


class Eligible(msgspec.Struct, frozen=True):
    pass


class Ineligible(msgspec.Struct, frozen=True):
    reason: Reason


class Limits(msgspec.Struct, frozen=True):
    stale_after_s: float
    max_requests_per_provider: int


_ELIGIBLE = Eligible()


def eligibility(
    provider: Provider, model: ModelName, *, now: float, limits: Limits
) -> Eligible | Ineligible:
    """Whether a request for `model` may go to this provider at `now` (monotonic seconds)."""
    if model not in provider.models:
        return Ineligible(Reason.OTHER_MODELS)
    if provider.role.malformed:
        return Ineligible(Reason.MALFORMED_ROLE)
    if provider.role.rank:
        return Ineligible(Reason.NOT_RANK_ZERO)
    if provider.draining:
        return Ineligible(Reason.DRAINING)
    if provider.load is None or not provider.load.ready:
        return Ineligible(Reason.NOT_READY)
    if now - provider.last_heard > limits.stale_after_s:
        return Ineligible(Reason.STALE)
    if provider.in_flight >= limits.max_requests_per_provider:
        return Ineligible(Reason.FULL)
    return _ELIGIBLE


def choose(candidates: Iterable[Provider]) -> Provider:
    """The one with the fewest requests under way; of those, the one that has waited longest."""
    return min(candidates, key=lambda provider: (provider.in_flight, provider.last_chosen))
