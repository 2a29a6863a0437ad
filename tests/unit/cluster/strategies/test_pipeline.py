"""How a pipeline is cut: whole layers, by what each costs, within each machine's memory."""

from __future__ import annotations

import itertools
import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.members import MODEL, hello, members

from tandem.cluster.members import Member
from tandem.cluster.strategies.pipeline import divide, held, is_whole, split_layers
from tandem.errors import PeerRefused
from tandem.protocol.cluster import ModelFacts, Part, PeerHello

GB = 1_000_000_000


def test_layers_follow_speed_and_the_head_counts_for_the_last_rank() -> None:
    assert split_layers(members(hello(), hello())) == [8, 8]
    big_head = {"embedding_bytes": 800_000_000}
    assert split_layers(members(hello(model=big_head), hello(model=big_head))) == [9, 7]
    no_head = {"embedding_bytes": 1}
    assert split_layers(members(hello(model=no_head), hello(model=no_head))) == [8, 8]
    fast = hello(bytes_per_s=30e9, model=no_head)
    assert split_layers(members(fast, hello(model=no_head))) == [12, 4]
    nearly = hello(bytes_per_s=10.9e9, model=no_head)
    assert split_layers(members(nearly, hello(model=no_head))) == [8, 8]


def test_layers_that_cost_more_are_fewer() -> None:
    dear_at_the_end = {"layer_bytes": [100] * 8 + [400] * 4, "embedding_bytes": 1}
    assert split_layers(members(*[hello(model=dear_at_the_end)] * 2)) == [9, 3]
    dear_at_the_start = {"layer_bytes": [400] * 4 + [100] * 8, "embedding_bytes": 1}
    assert split_layers(members(*[hello(model=dear_at_the_start)] * 2)) == [3, 9]


def test_experts_that_a_token_does_not_choose_cost_memory_alone() -> None:
    """Four layers of MLPs, then four of which a token reads as much."""
    sparse = {
        "layer_bytes": [100_000_000] * 4 + [800_000_000] * 4,
        "read_bytes": [100_000_000] * 8,
        "embedding_bytes": 1,
    }
    assert split_layers(members(*[hello(model=sparse)] * 2)) == [4, 4]
    small = hello(model=sparse, memory_bytes=2_100_000_000)
    assert split_layers(members(hello(model=sparse), small)) == [6, 2]


def test_layers_that_cost_the_same_go_one_by_one_to_whoever_is_done_first() -> None:
    """Where the slowest stage is given, the others are as even as can be: so is their memory."""
    hellos = [hello(bytes_per_s=speed * 1e9) for speed in (98.0, 38.0, 8.0)]
    assert split_layers(members(*hellos)) == [11, 4, 1]


def test_a_small_machine_gets_what_it_has_room_for() -> None:
    small = hello(memory_bytes=600_000_000)
    assert split_layers(members(small, hello())) == [3, 13]
    with pytest.raises(PeerRefused, match=r"needs 1\.9 GB.*room for 0\.5, 0\.5 GB"):
        split_layers(members(small, small))


def test_an_operators_split_is_taken_or_refused() -> None:
    assert split_layers(members(hello(layers=[4, 12]), hello())) == [4, 12]
    for wrong in ([4, 11], [16], [0, 16]):
        with pytest.raises(PeerRefused, match="--split"):
            split_layers(members(hello(), hello(layers=wrong)))


clusters = st.lists(
    st.builds(
        lambda memory, speed: hello(memory_bytes=memory, bytes_per_s=speed),
        st.integers(GB // 2, 8 * GB),
        st.floats(1e9, 8e9),
    ),
    min_size=2,
    max_size=4,
)
models = st.lists(st.tuples(st.integers(1, 10), st.integers(0, 9)), min_size=1, max_size=9).map(
    lambda layers: msgspec.structs.replace(
        MODEL,
        layer_bytes=[weight * GB // 10 for weight, _ in layers],
        read_bytes=[weight * GB // (10 + idle) for weight, idle in layers],
    )
)


def _stages_s(nodes: list[Member], counts: list[int]) -> list[float]:
    """Of all stages, the slowest first. Reckoned from the start, layer by layer.

    Infinite for what does not fit.
    """
    model = nodes[0].hello.model
    floor = min(node.hello.bytes_per_s for node in nodes)
    stages, first = [], 0
    for rank, (node, count) in enumerate(zip(nodes, counts, strict=True)):
        layers = sum(model.layer_bytes[first : first + count])
        edges = (rank == 0) + (rank == len(nodes) - 1)
        read = sum(model.read_bytes[first : first + count])
        if layers + edges * model.embedding_bytes > 0.8 * node.hello.memory_bytes:
            return [math.inf]
        head = 0.2 * model.embedding_bytes if rank == len(nodes) - 1 else 0.0
        stages.append((read + head) / (round(4 * node.hello.bytes_per_s / floor) / 4))
        first += count
    return sorted(stages, reverse=True)


@settings(max_examples=200, deadline=None)
@given(clusters, models)
def test_no_other_cut_has_a_faster_slowest_stage_or_then_a_faster_second_slowest(
    hellos: list[PeerHello], model: ModelFacts
) -> None:
    nodes = members(*(msgspec.structs.replace(each, model=model) for each in hellos))
    size, layers = len(nodes), model.layers
    cuts = [
        [end - start for start, end in itertools.pairwise((0, *inner, layers))]
        for inner in itertools.combinations(range(1, layers), size - 1)
    ]
    best = min((_stages_s(nodes, cut) for cut in cuts), default=[math.inf])
    if math.isinf(best[0]):
        with pytest.raises(PeerRefused):
            split_layers(nodes)
        return
    counts = split_layers(nodes)
    assert counts in cuts
    assert _stages_s(nodes, counts) == pytest.approx(best)
    assert is_whole(divide(nodes), layers)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=4))
def test_only_a_chain_of_all_layers_is_whole(ranges: list[tuple[int, int]]) -> None:
    covered = [layer for first, end in ranges for layer in range(first, end)]
    whole = covered == list(range(6)) and all(first < end for first, end in ranges)
    assert is_whole([Part("n", first, end) for first, end in ranges], 6) == whole


def test_the_edges_hold_a_vocabulary_each() -> None:
    nodes = members(*[hello()] * 4)
    parts = divide(nodes)
    shares = [held(MODEL, parts, rank) for rank in range(4)]
    layers = sum(MODEL.layer_bytes)
    assert sum(share.weights_bytes for share in shares) == layers + 2 * MODEL.embedding_bytes
    assert sum(share.kv_bytes_per_token for share in shares) == MODEL.kv_bytes_per_token
