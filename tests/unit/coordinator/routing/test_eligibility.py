"""Who may get a request: one function, which names its reason."""

from __future__ import annotations

import msgspec
import pytest
from tests.support.ineligible import MODEL, SMALL, full, ineligible, ready
from tests.support.registered import make_registry

from tandem.coordinator.fleet.provider import Hold, Role
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import Reason, eligibility

_BUSY = (Reason.FULL, Reason.SET_ASIDE)


def test_a_sound_provider_may_have_a_request() -> None:
    assert eligibility(ready(make_registry()), SMALL, now=0.0) is None


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_named(reason: Reason) -> None:
    _, provider, demand = ineligible(reason)
    assert eligibility(provider, demand, now=0.0) is reason


@pytest.mark.parametrize("reason", [r for r in Reason if r not in _BUSY])
def test_busy_is_said_only_of_one_that_could_serve_otherwise(reason: Reason) -> None:
    _, provider, demand = ineligible(reason)
    full(provider)
    provider.breaker.trip(0.0)
    assert eligibility(provider, demand, now=0.0) is reason


@pytest.mark.parametrize("hold", [Hold.DRAINED, Hold.LEAVING])
def test_one_that_loads_while_it_drains_is_draining(hold: Hold) -> None:
    provider = ready(make_registry())
    provider.holds = {Hold.NOT_READY, hold}
    assert eligibility(provider, SMALL, now=0.0) is Reason.DRAINING


def test_rank_0_answers_for_its_cluster() -> None:
    provider = ready(make_registry())
    provider.role = Role(rank=0)
    assert eligibility(provider, SMALL, now=0.0) is None


@pytest.mark.parametrize(("longest", "fits"), [(0, True), (100, True), (10, False), (-1, True)])
def test_text_too_long_for_any_tokenisation_does_not_fit(longest: int, fits: bool) -> None:
    """Where the provider says how long its longest token is."""
    provider = ready(make_registry())
    info = provider.models[MODEL]
    provider.models[MODEL] = msgspec.structs.replace(info, max_token_bytes=longest)
    text = Demand(MODEL, text_bytes=10 * info.context_length)
    expected = None if fits else Reason.TOO_SMALL
    assert eligibility(provider, text, now=0.0) is expected


def test_one_request_alone_may_go_however_large() -> None:
    provider = ready(make_registry())
    large = Demand(MODEL, sequences=9, tokens=100_000)
    assert eligibility(provider, large, now=0.0) is None
    provider.in_flight = 1
    assert eligibility(provider, large, now=0.0) is Reason.FULL


@pytest.mark.parametrize(
    ("sequences", "tokens", "fits"), [(1, 1048, True), (2, 1, False), (1, 1049, False)]
)
def test_a_provider_is_full_when_sequences_or_cache_are_used_up(
    sequences: int, tokens: int, fits: bool
) -> None:
    """It decodes two sequences at once, and its cache holds 2,048 tokens."""
    provider = ready(make_registry())
    provider.in_flight, provider.sequences, provider.tokens = 1, 1, 1000
    reason = eligibility(provider, Demand(MODEL, sequences, tokens), now=0.0)
    assert reason is (None if fits else Reason.FULL)
