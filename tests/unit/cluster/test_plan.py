"""Plans: complete, within memory, by measurement, and refused for a reason."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.members import MODEL, hello, members

from tandem.cluster.members import Member
from tandem.cluster.plan import check_invitation, check_plan, make_plan
from tandem.cluster.strategies.costs import model_bytes
from tandem.errors import PeerRefused
from tandem.protocol.cluster import Invitation, ModelFacts, Parallelism, PeerHello, Proposal


def plan(found: list[Member], round_trip_s: float = 50e-6) -> Proposal:
    return make_plan(
        found, session_id="s", round_trip_s=round_trip_s, kv_tokens=4096, block_size=16
    )


nodes = st.builds(
    lambda memory, speed: hello(memory_bytes=memory, bytes_per_s=speed),
    st.integers(300_000_000, 8_000_000_000),
    st.floats(1e9, 50e9),
)


@settings(max_examples=300)
@given(
    hellos=st.lists(nodes, min_size=2, max_size=8),
    preference=st.sampled_from([Parallelism.AUTO, Parallelism.TENSOR, Parallelism.PIPELINE]),
    kv_heads=st.sampled_from([1, 2, 4, 6, 8]),
    round_trip_s=st.floats(1e-6, 0.1),
)
def test_a_plan_is_whole_fits_and_is_accepted(
    hellos: list[PeerHello], preference: Parallelism, kv_heads: int, round_trip_s: float
) -> None:
    size = len(hellos)
    found = members(
        *(
            msgspec.structs.replace(
                h,
                parallelism=preference,
                ranks=size,
                model=msgspec.structs.replace(MODEL, kv_heads=kv_heads),
            )
            for h in hellos
        )
    )
    try:
        proposal = plan(found, round_trip_s)
    except PeerRefused:
        return
    check_plan(proposal, found)
    assert proposal.why
    assert 16 <= proposal.kv_tokens <= 4096
    if proposal.strategy is Parallelism.TENSOR:
        assert kv_heads % size == 0
        assert all(model_bytes(MODEL) / size <= member.hello.memory_bytes for member in found)
    else:
        ends = [part.end_layer for part in proposal.parts]
        starts = [part.first_layer for part in proposal.parts]
        assert [0, *ends[:-1]] == starts
        assert ends[-1] == MODEL.layers
        for member, part in zip(found, proposal.parts, strict=True):
            weights = sum(MODEL.layer_bytes[part.first_layer : part.end_layer])
            assert weights <= member.hello.memory_bytes


def test_auto_weighs_the_link_against_the_computing() -> None:
    pair = members(hello(), hello())
    near, far = plan(pair, 50e-6), plan(pair, 20e-3)
    assert near.strategy is Parallelism.TENSOR
    assert far.strategy is Parallelism.PIPELINE
    assert "round trip 20000 us" in far.why
    odd = members(*(hello(ranks=3) for _ in range(3)))
    assert plan(odd).strategy is Parallelism.PIPELINE
    assert "8 KV heads do not divide among 3" in plan(odd).why


def test_tp_refuses_to_become_something_else() -> None:
    odd = members(*(hello(ranks=3, parallelism=Parallelism.TENSOR) for _ in range(3)))
    with pytest.raises(PeerRefused, match="do not divide"):
        plan(odd)


def test_a_forged_plan_is_refused() -> None:
    pair = members(hello(), hello())
    good = plan(pair, 20e-3)
    check_plan(good, pair)
    for bad in (
        msgspec.structs.replace(good, parts=good.parts[::-1]),
        msgspec.structs.replace(good, parts=good.parts[:1]),
        msgspec.structs.replace(good, strategy=Parallelism.SINGLE),
        msgspec.structs.replace(good, strategy=Parallelism.TENSOR),
        msgspec.structs.replace(good, kv_tokens=10**9),
    ):
        with pytest.raises(PeerRefused):
            check_plan(bad, pair)
    forced = [Member(m.node_id, hello(parallelism=Parallelism.TENSOR)) for m in pair]
    with pytest.raises(PeerRefused, match="--parallelism is tp"):
        check_plan(good, forced)
    check_invitation(Invitation("s", [m.node_id for m in pair], 0), pair)
    with pytest.raises(PeerRefused):
        check_invitation(Invitation("s", ["node-1", "node-0"], 0), pair)


def test_auto_takes_what_is_possible_and_says_what_is_not() -> None:
    few = [hello(model={"layer_bytes": [100_000_000]}) for _ in range(2)]
    found = plan(members(*few))
    assert found.strategy is Parallelism.TENSOR
    assert "1 layers cannot be divided among 2" in found.why
    with pytest.raises(PeerRefused, match=r"do not divide.*cannot be divided"):
        plan(members(*(msgspec.structs.replace(each, model=_odd(each)) for each in few)))


def test_auto_takes_what_leaves_room_for_a_cache() -> None:
    """A pipeline with a small machine fits, since the large one runs nearly all of the layers."""
    few = hello(memory_bytes=16_000_000_000), hello(memory_bytes=1_200_000_000, bytes_per_s=1e9)
    thirsty = {"kv_bytes_per_token": 40_000_000}
    pair = members(*(msgspec.structs.replace(each, model=_with(each, thirsty)) for each in few))
    found = plan(pair)
    assert found.strategy is Parallelism.PIPELINE
    assert "tp: no memory is left" in found.why
    forced = [
        Member(each.node_id, msgspec.structs.replace(each.hello, parallelism=Parallelism.TENSOR))
        for each in pair
    ]
    with pytest.raises(PeerRefused, match="no memory is left"):
        plan(forced)


def _with(each: PeerHello, changes: dict[str, int]) -> ModelFacts:
    return msgspec.structs.replace(each.model, **changes)


def test_a_split_that_is_not_the_models_is_refused_whatever_else_is_possible() -> None:
    with pytest.raises(PeerRefused, match="--split"):
        plan(members(hello(layers=[8, 9]), hello()), 50e-6)
    assert plan(members(hello(layers=[8, 8]), hello()), 50e-6).strategy is Parallelism.TENSOR


def _odd(each: PeerHello) -> ModelFacts:
    return msgspec.structs.replace(each.model, kv_heads=3)
