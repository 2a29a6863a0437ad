"""Elections and plans: deterministic, complete, within memory, and refused for a reason."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.cluster.plan import (
    Member,
    check_compatible,
    check_invitation,
    check_plan,
    elect,
    make_plan,
    model_bytes,
    split_layers,
)
from tandem.cluster.state import Event, State, decide
from tandem.errors import PeerRefused
from tandem.protocol.cluster import (
    CLUSTER_VERSION,
    Collectives,
    Invitation,
    ModelFacts,
    Parallelism,
    PeerHello,
    Proposal,
)
from tandem.security import NodeId

MODEL = ModelFacts(
    name="m",
    digest="d" * 64,
    layers=16,
    kv_heads=8,
    columns=8192,
    vocabulary=32_000,
    hidden=2048,
    layer_bytes=100_000_000,
    embedding_bytes=130_000_000,
    tied=False,
    kv_bytes_per_token=65_536,
    dtype="bfloat16/whole",
)


def hello(**changes: Any) -> PeerHello:  # noqa: ANN401 - any field
    model = msgspec.structs.replace(MODEL, **changes.pop("model", {}))
    fields: dict[str, Any] = {
        "version": CLUSTER_VERSION,
        "name": "node",
        "incarnation": "i",
        "model": model,
        "parallelism": Parallelism.AUTO,
        "collectives": Collectives.SEALED,
        "ranks": 2,
        "rank": None,
        "layers": None,
        "memory_bytes": 16_000_000_000,
        "bytes_per_s": 10e9,
        "control_port": 1,
        "data_port": 2,
    }
    return PeerHello(**(fields | changes))


def members(*hellos: PeerHello) -> list[Member]:
    return [Member(NodeId(f"node-{i}"), found) for i, found in enumerate(hellos)]


def plan(found: list[Member], round_trip_s: float = 50e-6) -> Proposal:
    return make_plan(
        found, session_id="s", round_trip_s=round_trip_s, kv_tokens=4096, block_size=16
    )


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
            weights = (part.end_layer - part.first_layer) * MODEL.layer_bytes
            assert weights <= member.hello.memory_bytes


def test_layers_follow_speed_and_the_head_counts_for_the_last_rank() -> None:
    assert split_layers(members(hello(), hello()), None) == [8, 8]
    big_head = {"embedding_bytes": 800_000_000}
    assert split_layers(members(hello(model=big_head), hello(model=big_head)), None) == [9, 7]
    no_head = {"embedding_bytes": 1}
    assert split_layers(members(hello(model=no_head), hello(model=no_head)), None) == [8, 8]
    fast = hello(bytes_per_s=30e9, model=no_head)
    assert split_layers(members(fast, hello(model=no_head)), None) == [12, 4]
    nearly = hello(bytes_per_s=10.9e9, model=no_head)
    assert split_layers(members(nearly, hello(model=no_head)), None) == [8, 8]


def test_a_small_machine_gets_what_it_has_room_for() -> None:
    small = hello(memory_bytes=600_000_000)
    assert split_layers(members(small, hello()), None) == [3, 13]
    with pytest.raises(PeerRefused, match=r"needs 1\.9 GB"):
        split_layers(members(small, small), None)


def test_an_operators_split_is_taken_or_refused() -> None:
    pair = members(hello(), hello())
    assert split_layers(pair, [4, 12]) == [4, 12]
    for wrong in ([4, 11], [16], [0, 16]):
        with pytest.raises(PeerRefused, match="--split"):
            split_layers(pair, wrong)


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


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"version": 1}, "protocol 1 there, 2 here"),
        ({"model": {"digest": "e" * 64}}, "another model"),
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


def test_a_forged_plan_is_refused() -> None:
    pair = members(hello(), hello())
    good = plan(pair, 20e-3)
    check_plan(good, pair)
    for bad in (
        msgspec.structs.replace(good, parts=good.parts[::-1]),
        msgspec.structs.replace(good, parts=good.parts[:1]),
        msgspec.structs.replace(good, strategy=Parallelism.SINGLE),
        msgspec.structs.replace(good, strategy=Parallelism.TENSOR),
    ):
        with pytest.raises(PeerRefused):
            check_plan(bad, pair)
    forced = [Member(m.node_id, hello(parallelism=Parallelism.TENSOR)) for m in pair]
    with pytest.raises(PeerRefused, match="--parallelism is tp"):
        check_plan(good, forced)
    check_invitation(Invitation("s", [m.node_id for m in pair], 0), pair)
    with pytest.raises(PeerRefused):
        check_invitation(Invitation("s", ["node-1", "node-0"], 0), pair)


def test_a_role_can_only_be_left_through_degraded() -> None:
    """B16: every way out of planning, loading and active is the one that clears the session."""
    allowed = {}
    for state, event in itertools.product(State, Event):
        try:
            allowed[state, event] = decide(state, event)
        except AssertionError:
            continue
    for state in (State.PLANNING, State.LOADING, State.ACTIVE):
        ways = {following for (source, _), following in allowed.items() if source is state}
        assert ways - {State.LOADING, State.ACTIVE} == {State.DEGRADED}
    assert {s for (s, _), f in allowed.items() if f is State.ACTIVE} == {State.LOADING}
    assert allowed[State.DEGRADED, Event.CLEARED] is State.IDLE
