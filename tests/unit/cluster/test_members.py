"""Who fits together, and who is which rank: the same everywhere, and refused for a reason."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.members import hello, members

from tandem.cluster.members import check_compatible, elect
from tandem.errors import PeerRefused
from tandem.protocol.cluster import CLUSTER_VERSION, Collectives, Parallelism


@given(st.permutations(range(5)), st.lists(st.none() | st.integers(0, 4), min_size=5, max_size=5))
def test_every_node_elects_the_same_order(order: list[int], wishes: list[int | None]) -> None:
    found = members(*(hello(rank=wish, ranks=5) for wish in wishes))
    stated = [wish for wish in wishes if wish is not None]
    if len(set(stated)) != len(stated):
        with pytest.raises(PeerRefused, match="--rank"):
            elect(found)
        return
    elected = elect(found)
    assert elect([found[i] for i in order]) == elected
    for rank, member in enumerate(elected):
        assert member.hello.rank in (None, rank)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"version": 1}, f"protocol 1 there, {CLUSTER_VERSION} here"),
        ({"model": {"settings": {"hidden_size": "128"}}}, "hidden_size 128 there, 64 here"),
        ({"model": {"settings": {}}}, "hidden_size nothing there, 64 here"),
        ({"model": {"tokenizer": "0" * 64}}, "other tokenizer"),
        ({"model": {"weights": "0" * 64}}, "another model: m there, m here: other weights"),
        ({"model": {"dtype": "float32/whole"}}, "--dtype"),
        ({"parallelism": Parallelism.PIPELINE}, "--parallelism"),
        ({"collectives": Collectives.GLOO}, "--collectives"),
        ({"ranks": 3}, "--ranks"),
        ({"rank": 0}, "--rank 0"),
        ({"layers": [1, 15]}, "--split"),
    ],
)
def test_what_does_not_fit_together_is_named(changes: dict[str, Any], word: str) -> None:
    own = hello(rank=0, layers=[8, 8])
    with pytest.raises(PeerRefused, match=word):
        check_compatible(own, hello(**({"rank": 1, "layers": [8, 8]} | changes)))
    check_compatible(own, hello(rank=1))
