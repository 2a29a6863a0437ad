"""Executors over a session's ranks: tensor parallel and pipeline, as rank 0 runs them.

Each belongs to exactly one session. A step is never sent twice: whatever fails ends the session,
and a new one starts from an empty cache.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import msgspec
import torch

from tandem.cluster.collectives.sealed import LinkCommunicator
from tandem.engine import Executor, LocalExecutor, Stage, StepPlan, StepResult
from tandem.errors import LinkLost, ProtocolError
from tandem.link import Channel, LinkUse
from tandem.protocol.cluster import FailureHeader, PlanHeader, ResultHeader

_encode = msgspec.msgpack.Encoder().encode


class LinkedExecutor(Executor, Protocol):
    """An executor over links."""

    @property
    def link_use(self) -> LinkUse:
        """Of all its links, until now."""
        ...


class TensorParallelExecutor(LocalExecutor[torch.Tensor]):
    """Every rank runs its slice of each layer on the same plan; rank 0 gathers and samples."""

    def __init__(
        self, stage: Stage[torch.Tensor], group: LinkCommunicator, channels: dict[int, Channel]
    ) -> None:
        super().__init__(stage)
        self._group = group
        self._channels = channels

    @property
    def link_use(self) -> LinkUse:
        return _use(self._channels)

    def submit(self, plan: StepPlan) -> None:
        with _ending_on_failure(self._channels):
            _announce(plan, self._channels)
            self._group.begin(plan.step)
            super().submit(plan)

    def close(self) -> None:
        _abort(self._channels)
        super().close()


class PipelineExecutor:
    """Rank 0 runs the first layers and passes on; the last rank samples and answers.

    As many steps are under way as there are stages, so that all of them compute at once, and one
    more, so that none waits when another is late. Only prefill fills that one: sequences decode in
    as many groups as there are stages.
    """

    def __init__(
        self, stage: Stage[torch.Tensor], group: LinkCommunicator, channels: dict[int, Channel]
    ) -> None:
        self._stage = stage
        self._group = group
        self._channels = channels
        self._last = max(channels)
        self._steps: deque[int] = deque()

    @property
    def stages(self) -> int:
        return len(self._channels) + 1

    @property
    def depth(self) -> int:
        return self.stages + 1

    @property
    def link_use(self) -> LinkUse:
        return _use(self._channels)

    def submit(self, plan: StepPlan) -> None:
        with _ending_on_failure(self._channels):
            _announce(plan, self._channels)
            self._group.begin(plan.step)
            self._group.send(self._stage.begin(plan).forward(), 1)
        self._steps.append(plan.step)

    def collect(self) -> StepResult:
        with _ending_on_failure(self._channels):
            return self._receive(self._steps.popleft())

    def close(self) -> None:
        _abort(self._channels)

    def _receive(self, step: int) -> StepResult:
        header, payload = self._channels[self._last].receive()
        if isinstance(header, FailureHeader):
            raise LinkLost(f"rank {self._last} failed: {header.message}")
        if header != ResultHeader(step):
            raise ProtocolError(f"{header} came; the result of step {step} was due")
        try:
            return msgspec.msgpack.decode(payload, type=StepResult)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"the result of step {step} is malformed: {error}") from error


def _use(channels: dict[int, Channel]) -> LinkUse:
    used = [channel.use for channel in channels.values()]
    return LinkUse(
        sum(use.seconds for use in used),
        sum(use.frames for use in used),
        sum(use.bytes for use in used),
    )


def _announce(plan: StepPlan, channels: dict[int, Channel]) -> None:
    payload = _encode(plan)
    for channel in channels.values():
        channel.send(PlanHeader(plan.step), payload)


@contextmanager
def _ending_on_failure(channels: dict[int, Channel]) -> Iterator[None]:
    """A step that fails here leaves the others in the middle of it: the session is over."""
    try:
        yield
    except BaseException:
        _abort(channels)
        raise


def _abort(channels: dict[int, Channel]) -> None:
    """The end of the executor is the end of its session: the other ranks stop waiting."""
    for channel in channels.values():
        channel.abort()
