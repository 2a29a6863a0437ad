"""How many sequences may begin: what fits, a little less where there are others, and never none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.ineligible import MODEL
from tests.support.registered import beat, join, make_registry

from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.places import places
from tandem.coordinator.routing.registry import Registry

#: 128 answers of 10 tokens to one prompt of 100.
MANY = Demand(
    MODEL, 128, tokens=1380, prompt_tokens=100, output_tokens=10, divisible=True, key="many"
)


def serving(sequences: int, tokens: int = 65_536) -> tuple[Registry, Provider]:
    registry = make_registry()
    provider = join(registry, [MODEL])
    registry.heartbeat(provider, beat(max_sequences=sequences, total_blocks=tokens // 16))
    return registry, provider


def test_a_request_of_many_sequences_takes_what_there_is_room_for() -> None:
    registry, provider = serving(32)
    assert places(provider, MANY) == 32
    first = registry.reserve(MANY)
    assert (first.sequences, provider.sequences, provider.tokens) == (32, 32, 100 + 32 * 10)
    assert places(provider, MANY) == 0
    first.release()
    assert (provider.sequences, provider.tokens, provider.held("many")) == (0, 0, 0)


def test_it_takes_as_many_as_the_cache_can_hold() -> None:
    registry, provider = serving(32, tokens=320)
    assert places(provider, MANY) == (320 - 100) // 10
    registry.reserve(MANY)
    assert places(provider, MANY) == 0


def test_prompts_of_their_own_are_counted_with_their_sequences() -> None:
    batch = Demand(
        MODEL, 64, tokens=6400, prompt_tokens=5760, output_tokens=10, divisible=True, own_prompt=90
    )
    _, provider = serving(32, tokens=1600)
    assert places(provider, batch) == 16
    assert (batch.part(16).tokens, batch.part(16).prompt_tokens) == (1600, 16 * 90)


def test_where_nothing_runs_one_may_begin_however_large() -> None:
    _, provider = serving(2, tokens=64)
    assert places(provider, MANY) == 1
    whole = Demand(MODEL, 5, tokens=10**6)
    assert places(provider, whole) == 5, "what cannot be divided goes as it is"


@pytest.mark.parametrize(("most", "left"), [(1, 0), (2, 0), (4, 0), (8, 1), (16, 2), (32, 4)])
def test_one_key_leaves_an_eighth_to_others_however_it_asks(most: int, left: int) -> None:
    registry, provider = serving(most)
    one = Demand(MODEL, key="many", leaves_room=True)
    for _ in range(64):
        if places(provider, one):
            registry.reserve(one)
    assert provider.sequences == most - left
    registry, provider = serving(most)
    registry.reserve(Demand(MODEL, 128, divisible=True, key="many", leaves_room=True))
    assert provider.sequences == most - left
    other = Demand(MODEL, key="other", leaves_room=True)
    assert bool(places(provider, other)) == bool(left)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(1, 40)), max_size=60))
def test_no_provider_is_given_more_than_it_can_do(asked: list[tuple[str, int]]) -> None:
    registry, provider = serving(16, tokens=640)
    for key, sequences in asked:
        demand = Demand(
            MODEL,
            sequences,
            tokens=20 + 10 * sequences,
            prompt_tokens=20,
            output_tokens=10,
            divisible=True,
            key=key,
            leaves_room=True,
        )
        if places(provider, demand):
            registry.reserve(demand)
        assert provider.sequences <= 16
        assert provider.tokens <= 640
    keys = {key for key, _ in asked}
    assert sum(map(provider.held, keys)) == provider.sequences


def test_many_keys_leave_nothing_unused() -> None:
    registry, provider = serving(32)
    for key in "abcdefgh" * 32:
        one = Demand(MODEL, key=key, leaves_room=True)
        if places(provider, one):
            registry.reserve(one)
    assert provider.sequences == 32
