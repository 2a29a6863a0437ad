"""A rank above 0 against a rank 0 that misbehaves."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import torch
from tests.support.links import TIMEOUT_S, channels

from tandem.cluster.collectives import SealedCommunicator
from tandem.cluster.strategies.shard_server import ShardServer
from tandem.engine import StepPlan
from tandem.engine.backends.pytorch.tensors import TorchTensors
from tandem.errors import LinkLost, ProtocolError, TandemError
from tandem.link import Channel
from tandem.protocol.cluster import (
    DataHello,
    FailureHeader,
    PlanHeader,
    ResultHeader,
    TensorHeader,
    ToRank,
)


class _Recorder:
    """Notes the steps that it is asked to run."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def run(self, plan: StepPlan) -> None:
        self.steps.append(plan.step)


@contextmanager
def serving(directory: Path) -> Iterator[tuple[Channel, _Recorder, Callable[[], TandemError]]]:
    """Rank 0's end, the steps that were run, and how to wait for why the server ended."""
    with channels(directory) as (zero, one):
        work, ended = _Recorder(), list[TandemError]()
        thread = threading.Thread(target=lambda: ended.append(ShardServer(work, one).run()))
        thread.start()

        def join() -> TandemError:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
            return ended[0]

        try:
            yield zero, work, join
        finally:
            zero.abort()
            thread.join(TIMEOUT_S)


def _links(rank: int, channel: Channel) -> SealedCommunicator[torch.Tensor]:
    return SealedCommunicator(rank, {1 - rank: channel}, TorchTensors())


def _send_plan(channel: Channel, step: int, announced: int | None = None) -> None:
    payload = msgspec.msgpack.encode(StepPlan(step, []))
    channel.send(PlanHeader(step if announced is None else announced), payload)


@pytest.mark.parametrize("second", [1, 3, 0, -1], ids=["repeated", "skipped", "zero", "negative"])
def test_a_step_out_of_turn_ends_the_session(tmp_path: Path, second: int) -> None:
    """B5, B11: no step is run twice, and none is left out."""
    with serving(tmp_path) as (channel, work, ended):
        _send_plan(channel, 1)
        _send_plan(channel, second)
        header, _ = channel.receive()
        assert isinstance(header, FailureHeader)
        assert header.code == "protocol_error"
        assert isinstance(ended(), ProtocolError)
        assert work.steps == [1]


@pytest.mark.parametrize(
    "header",
    [
        DataHello("s", 0),
        ResultHeader(1),
        TensorHeader(1, 1, "float32", [1]),
        FailureHeader("internal_error", "it broke"),
    ],
    ids=lambda header: type(header).__name__,
)
def test_a_frame_that_is_no_plan_is_answered_with_an_error(tmp_path: Path, header: ToRank) -> None:
    """B12: it is neither run nor waited for."""
    with serving(tmp_path) as (channel, work, ended):
        channel.send(header)
        answer, _ = channel.receive()
        assert isinstance(answer, FailureHeader)
        assert isinstance(ended(), ProtocolError)
        assert work.steps == []


def _send_garbage(channel: Channel) -> None:
    channel.send(PlanHeader(1), b"\xc1 no plan")


def _send_anothers_plan(channel: Channel) -> None:
    _send_plan(channel, 2, announced=1)


@pytest.mark.parametrize("send", [_send_garbage, _send_anothers_plan])
def test_a_plan_that_is_garbled_or_of_another_step_is_refused(
    tmp_path: Path, send: Callable[[Channel], None]
) -> None:
    with serving(tmp_path) as (channel, work, ended):
        send(channel)
        assert isinstance(ended(), ProtocolError)
        assert work.steps == []


def test_a_link_that_breaks_is_a_lost_link(tmp_path: Path) -> None:
    with serving(tmp_path) as (channel, _, ended):
        channel.abort()
        assert isinstance(ended(), LinkLost)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_states_keep_their_dtype_on_the_way(tmp_path: Path, dtype: torch.dtype) -> None:
    """B10: dtype and shape travel with the tensor, as raw bytes."""
    states = torch.randn(5, 16).to(dtype)
    with channels(tmp_path) as (zero, one):
        _links(0, zero).send(states, 1)
        like = torch.empty(5, 16, dtype=dtype)
        received = _links(1, one).receive(like, 0)
        assert received.dtype == dtype
        assert torch.equal(received, states)


@pytest.mark.parametrize(
    "like",
    [torch.empty(5, 16, dtype=torch.float16), torch.empty(4, 16), torch.empty(5, 4, 4)],
    ids=["dtype", "rows", "dimensions"],
)
def test_a_tensor_that_is_not_the_one_due_is_refused(tmp_path: Path, like: torch.Tensor) -> None:
    with channels(tmp_path) as (zero, one):
        _links(0, zero).send(torch.zeros(5, 16), 1)
        with pytest.raises(ProtocolError):
            _links(1, one).receive(like, 0)


def test_a_tensor_of_another_step_is_refused(tmp_path: Path) -> None:
    with channels(tmp_path) as (zero, one):
        sender, receiver = _links(0, zero), _links(1, one)
        sender.begin(1)
        receiver.begin(2)
        sender.send(torch.zeros(2, 2), 1)
        with pytest.raises(ProtocolError, match="step 2 was due"):
            receiver.receive(torch.zeros(2, 2), 0)
