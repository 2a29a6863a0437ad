"""Who has to go when there are too many connections."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.coordinator.server.capacity import Capacity
from tandem.coordinator.server.census import Census, network_of
from tandem.coordinator.server.peer import Peer

SMALL = Capacity(connections=8, clients=6, strangers=4, strangers_an_address=3, accepted_a_turn=2)


def test_the_oldest_stranger_goes_first() -> None:
    events: list[str] = []
    census = Census(SMALL, events.append)
    strangers = [census.arrive(f"10.0.0.{number}") for number in range(5)]
    assert [peer.aborted for peer in strangers] == [True, False, False, False, False]
    assert events == ["stranger_shed"]


def test_one_address_pushes_out_its_own() -> None:
    census = Census(SMALL)
    other = census.arrive("10.0.0.1")
    flood = [census.arrive("10.0.0.2") for _ in range(100)]
    assert not other.aborted
    assert [peer.aborted for peer in flood] == [True] * 97 + [False] * 3


def test_who_has_shown_a_key_stays_however_many_strangers_come() -> None:
    census = Census(SMALL)
    known = census.arrive("10.0.0.1")
    known.vouch()
    census.idle(known)
    for number in range(100):
        census.arrive(f"10.0.1.{number}")
    assert not known.aborted
    assert census.counts() == {"stranger": 4, "known": 1, "provider": 0}


def test_when_all_are_known_an_idle_one_goes_and_then_nobody() -> None:
    events: list[str] = []
    census = Census(SMALL, events.append)
    known = [census.arrive("10.0.0.1") for _ in range(3)]
    for peer in known:
        peer.vouch()
    known += [census.arrive("10.0.0.2") for _ in range(3)]
    for peer in known:
        peer.vouch()
        census.busy(peer)
    census.idle(known[4])
    census.arrive("10.0.0.3")
    assert [peer.aborted for peer in known] == [False] * 4 + [True, False]
    assert events == ["idle_shed"]
    assert not census.crowded
    census.arrive("10.0.0.4")
    assert events == ["idle_shed", "stranger_shed"]


def test_a_place_of_a_provider_is_not_a_clients() -> None:
    census = Census(SMALL)
    for _ in range(2):
        census.arrive("10.0.0.1").welcome()
    for _ in range(6):
        census.arrive("10.0.0.2").vouch()
    assert not census.crowded
    assert census.full
    census.arrive("10.0.0.2")
    assert census.counts() == {"stranger": 1, "known": 6, "provider": 2}


def test_a_provider_that_asked_something_before_is_not_let_go_as_idle() -> None:
    census = Census(SMALL)
    provider = census.arrive("10.0.0.1")
    provider.vouch()
    census.idle(provider)
    provider.welcome()
    census.make_room()
    assert not provider.aborted


def test_it_is_crowded_until_a_newcomer_turns_out_to_be_a_provider() -> None:
    census = Census(SMALL)
    for _ in range(6):
        census.arrive("10.0.0.2").vouch()
    newcomer = census.arrive("10.0.0.2")
    assert census.crowded
    newcomer.welcome()
    assert len(census) == 7
    assert census.counts()["provider"] == 1


def test_it_is_empty_when_all_have_left() -> None:
    census = Census(SMALL)
    peers = [census.arrive("10.0.0.1") for _ in range(3)]
    for peer in peers:
        census.leave(peer)
        census.leave(peer)
        peer.vouch()
        census.idle(peer)
    assert len(census) == 0
    assert census.counts() == {"stranger": 0, "known": 0, "provider": 0}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["arrive", "vouch", "welcome", "idle", "busy", "leave"]),
            st.integers(0, 40),
        ),
        max_size=200,
    )
)
def test_no_bound_is_ever_exceeded_by_those_who_can_be_let_go(steps: list[tuple[str, int]]) -> None:
    census = Census(SMALL)
    peers: list[Peer] = []
    for step, number in steps:
        if step == "arrive":
            peers.append(census.arrive(f"10.0.0.{number % 3}"))
        elif peers:
            peer = peers[number % len(peers)]
            getattr(peer if step in {"vouch", "welcome"} else census, step)(
                *([] if step in {"vouch", "welcome"} else [peer])
            )
        counts = census.counts()
        assert counts["stranger"] <= SMALL.strangers
        assert sum(counts.values()) == len(census)
        assert min(counts.values()) >= 0


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1%eth0", "2001:db8::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("", ""),
    ],
)
def test_where_a_stranger_comes_from(address: str, network: str) -> None:
    assert network_of(address) == network


@given(st.integers(16, 2_000_000), st.integers(1, 20_000))
def test_descriptors_are_divided_so_that_everybody_has_some(
    descriptors: int, max_providers: int
) -> None:
    capacity = Capacity.of_descriptors(descriptors, max_providers)
    assert 0 < capacity.strangers_an_address <= capacity.strangers <= capacity.clients
    assert capacity.clients < capacity.connections < descriptors
    # Those who had to go in two turns are not closed yet, and files can be opened still.
    assert capacity.connections + 2 * capacity.accepted_a_turn <= descriptors
