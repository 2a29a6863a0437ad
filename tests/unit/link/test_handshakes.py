"""Nobody is kept out by those who only hold a place: the oldest of the greediest gives way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.link.handshakes import Handshakes, source_of


def test_the_oldest_of_an_address_gives_way_to_its_newest() -> None:
    handshakes = Handshakes[int](max_in_all=10, max_an_address=2)
    assert [handshakes.enter("10.0.0.1", ticket) for ticket in range(4)] == [None, None, 0, 1]
    assert handshakes.enter("10.0.0.2", 4) is None
    assert len(handshakes) == 3


def test_whoever_has_most_gives_way_when_there_are_too_many_in_all() -> None:
    handshakes = Handshakes[int](max_in_all=3, max_an_address=3)
    for ticket in range(3):
        handshakes.enter("10.0.0.1", ticket)
    assert handshakes.enter("10.0.0.2", 3) == 0
    handshakes.leave("10.0.0.1", 0)  # it gave way: nothing is counted twice
    assert len(handshakes) == 3


def test_a_place_is_free_again_when_a_handshake_ends() -> None:
    handshakes = Handshakes[int](max_in_all=2, max_an_address=2)
    for ticket in range(100):
        assert handshakes.enter("10.0.0.1", ticket) is None
        handshakes.leave("10.0.0.1", ticket)
    assert len(handshakes) == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=200))
def test_there_are_never_more_than_the_bounds_allow(moves: list[tuple[int, bool]]) -> None:
    handshakes = Handshakes[int](max_in_all=8, max_an_address=4)
    under_way: dict[int, str] = {}
    for ticket, (number, enters) in enumerate(moves):
        if enters:
            host = f"10.0.0.{number}"
            under_way[ticket] = host
            gave_way = handshakes.enter(host, ticket)
            if gave_way is not None:
                assert gave_way != ticket
                del under_way[gave_way]
        elif under_way:
            oldest = next(iter(under_way))
            handshakes.leave(under_way.pop(oldest), oldest)
        assert len(handshakes) == len(under_way) <= 8
        assert max((list(under_way.values()).count(h) for h in under_way.values()), default=0) <= 4


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8:0:0:1::9", "2001:db8::/64"),
        ("fe80::1%2", "fe80::1%2"),
    ],
)
def test_an_ipv6_network_is_one_sender(host: str, source: str) -> None:
    assert source_of(host) == source
