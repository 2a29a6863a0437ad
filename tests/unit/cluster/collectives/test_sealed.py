"""Sums over channels: the same to the bit everywhere, and never of two different steps."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.memory import ListTensors, Rows, memory_mesh, on_all_ranks

from tandem.cluster.collectives import COLLECTIVES, SealedCommunicator, sealed
from tandem.errors import LinkLost, ProtocolError
from tandem.protocol.cluster import Collectives, FailureHeader, PlanHeader


def _group(size: int) -> list[SealedCommunicator[Rows]]:
    mesh = memory_mesh(size)
    return [SealedCommunicator(rank, mesh[rank], ListTensors()) for rank in range(size)]


@st.composite
def _of_all_ranks(draw: st.DrawFn) -> list[Rows]:
    """A tensor for each of two to five ranks, of one shape."""
    size, rows, columns = draw(st.integers(2, 5)), draw(st.integers(1, 7)), draw(st.integers(1, 3))
    numbers = st.floats(-1e9, 1e9, width=32)
    row = st.lists(numbers, min_size=columns, max_size=columns)
    return draw(st.lists(st.lists(row, min_size=rows, max_size=rows), min_size=size, max_size=size))


@pytest.mark.parametrize("direct_bytes", [0, 1 << 20], ids=["in two ways", "directly"])
def test_every_rank_has_the_sum_in_rank_order(
    monkeypatch: pytest.MonkeyPatch, direct_bytes: int
) -> None:
    monkeypatch.setattr(sealed, "_DIRECT_BYTES", direct_bytes)

    @settings(max_examples=40, deadline=None)
    @given(_of_all_ranks())
    def check(tensors: list[Rows]) -> None:
        group = _group(len(tensors))
        sums = on_all_ranks(len(tensors), lambda rank: group[rank].all_reduce(tensors[rank]))
        assert sums == [ListTensors().sum(tensors)] * len(tensors)

    check()


@settings(max_examples=20, deadline=None)
@given(_of_all_ranks())
def test_rank_0_gathers_in_rank_order(tensors: list[Rows]) -> None:
    group = _group(len(tensors))
    gathered = on_all_ranks(len(tensors), lambda rank: group[rank].gather(tensors[rank]))
    assert gathered[0] == ListTensors().join(tensors, -1)
    assert gathered[1:] == [None] * (len(tensors) - 1)


def test_ranks_in_different_steps_notice() -> None:
    group = _group(2)

    def work(rank: int) -> Rows:
        group[rank].begin(5 + rank)
        return group[rank].all_reduce([[1.0]])

    with pytest.raises(ProtocolError, match="tensor 1 of step 5 was due"):
        on_all_ranks(2, work)


def test_a_tensor_that_is_repeated_is_noticed() -> None:
    zero, one = _group(2)
    zero.send([[1.0]], 1)
    assert one.receive([[0.0]], 0) == [[1.0]]
    zero._sent[1] = 0
    zero.send([[1.0]], 1)
    with pytest.raises(ProtocolError, match="tensor 2 of step 0 was due"):
        one.receive([[0.0]], 0)


def test_what_another_rank_failed_with_is_passed_on() -> None:
    mesh = memory_mesh(2)
    one = SealedCommunicator(1, mesh[1], ListTensors())
    mesh[0][1].send(FailureHeader("internal_error", "it broke"))
    with pytest.raises(LinkLost, match="rank 0 failed: it broke"):
        one.receive([[0.0]], 0)
    mesh[0][1].send(PlanHeader(1))
    with pytest.raises(ProtocolError, match="was due"):
        one.receive([[0.0]], 0)


def test_a_group_with_a_channel_missing_is_none() -> None:
    mesh = memory_mesh(3)
    del mesh[0][1]
    with pytest.raises(ProtocolError, match="not a whole group"):
        SealedCommunicator(0, mesh[0], ListTensors())


def test_every_kind_has_its_row_and_only_the_sealed_one_needs_no_meeting() -> None:
    assert set(COLLECTIVES) == set(Collectives)
    links = _group(2)[0]
    assert COLLECTIVES[Collectives.SEALED](links, None) is links
    for kind in (Collectives.GLOO, Collectives.NCCL):
        with pytest.raises(ProtocolError, match=f"ranks of {kind} meet"):
            COLLECTIVES[kind](links, None)
