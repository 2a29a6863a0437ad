"""Who gets a request: a function of providers, demand, time and chance."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.ineligible import MODEL, SMALL, full, ready
from tests.support.registered import make_registry

from tandem.coordinator.fleet.provider import Hold, Provider
from tandem.coordinator.routing.affinity import Cached
from tandem.coordinator.routing.choice import capacity, choose, expected_s
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import Reason, eligibility
from tandem.protocol import ProviderId

Serving = dict[ProviderId, Provider]


def serving(count: int) -> Serving:
    registry = make_registry(max_providers=count)
    made = [ready(registry, max_sequences=64, total_blocks=10_000) for _ in range(count)]
    return {provider.id: provider for provider in made}


def pick(
    providers: Serving,
    demand: Demand = SMALL,
    *,
    cached: Cached | None = None,
    avoid: tuple[ProviderId, ...] = (),
) -> Provider | None:
    draw = random.Random(1)
    return choose(providers, demand, now=0.0, draw=draw, cached=cached, avoid=avoid)


def busy(prefill: float, decode: float, *, sequences: int = 0, prefilling: int = 0) -> Provider:
    """One with these speeds, and so much to do."""
    (provider,) = serving(1).values()
    speed = provider.speed(MODEL)
    speed.saw_first_token(round(prefill), 1.0)
    speed.saw_decode(decode, 1.0, 1)
    provider.in_flight = provider.sequences = sequences
    provider.prefilling = prefilling
    return provider


def test_the_example_of_the_documentation() -> None:
    demand = Demand(MODEL, prompt_tokens=1000, output_tokens=200)
    a, b = busy(2000, 20, sequences=3, prefilling=1000), busy(500, 40)
    assert expected_s(a, demand, 0.0) == pytest.approx((1.07, 14.8), rel=0.01)
    assert expected_s(b, demand, 0.0) == pytest.approx((2.03, 7.0), rel=0.01)
    assert expected_s(a, demand, 0.9)[0] == pytest.approx(0.62, rel=0.01)
    both = {a.id: a, b.id: b}
    cached = Cached(a.id, 0.9)
    assert pick(both, demand) is b
    assert pick(both, demand, cached=cached) is b
    short = Demand(MODEL, prompt_tokens=1000, output_tokens=20)
    assert pick(both, short, cached=cached) is a


def test_among_equals_the_least_busy_and_then_the_one_chosen_longest_ago() -> None:
    providers = serving(3)
    first, second, third = providers.values()
    first.last_chosen, second.last_chosen, third.last_chosen = 3, 1, 2
    assert pick(providers) is second
    second.in_flight = 1
    assert pick(providers) is third


def test_one_to_avoid_is_taken_only_when_there_is_no_other() -> None:
    providers = serving(2)
    first, second = providers.values()
    assert pick(providers, avoid=(first.id,)) is second
    assert pick(providers, avoid=(first.id, second.id)) in (first, second)
    second.holds = {Hold.DRAINED}
    assert pick(providers, avoid=(first.id,)) is first


def test_one_that_is_set_aside_is_asked_when_nobody_else_could_serve() -> None:
    providers = serving(2)
    first, second = providers.values()
    first.breaker.trip(0.0)
    assert pick(providers) is second
    second.holds = {Hold.NOT_READY}
    assert pick(providers) is first
    first.holds = {Hold.NOT_READY}
    assert pick(providers) is None
    assert pick({}) is None


@pytest.mark.parametrize("count", [1, 12, 32, 33, 60])
def test_of_any_number_the_only_one_with_room_is_found(count: int) -> None:
    providers = serving(count)
    *others, last = providers.values()
    for provider in others:
        full(provider)
        provider.sequences = 64
    assert pick(providers) is last


def test_among_many_the_one_with_the_prompts_beginning_is_a_candidate() -> None:
    providers = serving(500)
    last = list(providers.values())[-1]
    demand = Demand(MODEL, prompt_tokens=1000, output_tokens=1)
    assert pick(providers, demand) is not last
    assert pick(providers, demand, cached=Cached(last.id, 1.0)) is last


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.integers(0, 80), st.integers(0, 3000)),
        max_size=5,
    ),
    st.sets(st.integers(0, 4)),
    st.integers(0, 400),
)
def test_the_choice_may_have_the_request_and_nobody_allowed_would_be_sooner(
    states: list[tuple[bool, bool, int, int]], avoided: set[int], output: int
) -> None:
    providers = serving(len(states))
    demand = Demand(MODEL, tokens=10, prompt_tokens=10, output_tokens=output)
    for provider, (holds, aside, sequences, waiting) in zip(
        providers.values(), states, strict=True
    ):
        provider.holds = {Hold.DRAINED} if holds else set()
        provider.in_flight = provider.sequences = sequences
        provider.prefilling = waiting
        if aside:
            provider.breaker.trip(0.0)
    avoid = tuple(p.id for number, p in enumerate(providers.values()) if number in avoided)
    reasons = {p.id: eligibility(p, demand, now=0.0) for p in providers.values()}
    allowed = [p for p in providers.values() if reasons[p.id] is None] or [
        p for p in providers.values() if reasons[p.id] is Reason.SET_ASIDE
    ]
    chosen = pick(providers, demand, avoid=avoid)
    if chosen is None:
        assert not allowed
        return
    better = [p for p in allowed if p.id not in avoid] or allowed
    assert chosen in better
    soonest = min(expected_s(p, demand, 0.0)[1] for p in better)
    assert expected_s(chosen, demand, 0.0)[1] == soonest


def test_capacity_counts_who_could_serve_who_is_warm_and_who_has_room() -> None:
    providers = serving(5)
    _, occupied, draining, loading, aside = providers.values()
    occupied.in_flight = occupied.sequences = 64
    draining.holds = {Hold.LEAVING}
    loading.holds = {Hold.NOT_READY}
    aside.breaker.trip(0.0)
    found = capacity(providers, MODEL, Demand(MODEL).owners, now=0.0)
    assert found is not None
    assert (found.routable, found.warm, found.free) == (3, 4, 1)
    assert found.info.name == MODEL
    assert found.first_s == pytest.approx(0.1), "a step of an ordinary machine"
    only = {loading.id: loading}
    alone = capacity(only, MODEL, Demand(MODEL).owners, now=0.0)
    assert alone is not None
    assert alone.first_s is None
    assert capacity(providers, MODEL, frozenset({"another"}), now=0.0) is None
