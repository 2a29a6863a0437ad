"""What is bounded among thousands of providers."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator

import pytest
from tests.support.registered import join, make_registry

from tandem.coordinator.fleet.many import ConnectionFreezer, heartbeat_pace, pools
from tandem.coordinator.fleet.provider import Provider
from tandem.protocol import ProviderId


@pytest.fixture
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


def frozen_by(freezer: ConnectionFreezer, count: int) -> bool:
    """To be asked a few times only: counting what is frozen walks over all of it."""
    new = [[count]]  # there is something to freeze
    before = gc.get_freeze_count()
    freezer.grown_to(count)
    return gc.get_freeze_count() > before and bool(new)


@pytest.mark.usefixtures("_thawed")
def test_connections_are_frozen_when_they_have_grown_by_a_quarter() -> None:
    freezer = ConnectionFreezer()
    grown = [count for count in (1, 99, 100, 101, 224, 225, 381, 382) if frozen_by(freezer, count)]
    assert grown == [100, 225, 382]


@pytest.mark.usefixtures("_thawed")
def test_connections_that_shrink_and_grow_back_are_not_frozen_again() -> None:
    freezer = ConnectionFreezer()
    assert frozen_by(freezer, 1000)
    assert not any(frozen_by(freezer, count) for count in (999, 1, 100, 1000, 1349))
    assert frozen_by(freezer, 1350)


def test_heartbeats_are_slower_above_a_thousand_providers_only() -> None:
    assert [heartbeat_pace(count) for count in (0, 1, 1000, 1500, 4000)] == [1, 1, 1, 1.5, 4]


def serving(count: int) -> dict[ProviderId, Provider]:
    registry = make_registry(max_providers=count)
    return {provider.id: provider for provider in (join(registry, ["a"]) for _ in range(count))}


def test_few_providers_are_all_compared() -> None:
    providers = serving(32)
    assert list(pools(providers, None, random.Random(0))) == [list(providers.values())]
    assert list(pools({}, None, random.Random(0))) == [[]]


def test_of_many_a_few_are_drawn_with_the_preferred_one_and_then_all() -> None:
    providers = serving(40)
    last = list(providers)[-1]
    for preferred in (None, last, ProviderId("gone")):
        drawn, everybody = pools(providers, preferred, random.Random(0))
        assert len(set(map(id, drawn[:12]))) == 12
        assert [provider.id for provider in drawn[12:]] == ([last] if preferred == last else [])
        assert everybody == list(providers.values())
