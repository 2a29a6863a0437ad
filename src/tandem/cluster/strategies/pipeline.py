"""A pipeline: each rank runs some of the layers, on the states that the rank before it sends.

Rank 0 sends the plan to all, runs the first layers and passes on; the last rank samples and
answers. A step is never sent twice: whatever fails ends the session, and a new one starts from an
empty cache.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Generic

import msgspec

from tandem.cluster.strategies.base import (
    OtherRanks,
    RankContext,
    RankWork,
    SteppedStage,
)
from tandem.engine import Executor, Solo, Span, StepPlan, StepResult, pipeline_stage
from tandem.engine.core.communicator import Neighbours
from tandem.engine.core.tensors import Tensor
from tandem.errors import LinkLost, ProtocolError
from tandem.link import Channel
from tandem.protocol.cluster import FailureHeader, ResultHeader

_encode = msgspec.msgpack.Encoder().encode


def build_executor(context: RankContext) -> Executor:
    """Rank 0's end."""
    return PipelineExecutor(_load(context), context.links, OtherRanks(context.channels))


def build_work(context: RankContext) -> RankWork:
    """The end of every other rank."""
    return PipelineWork(_load(context), context.links, context.channels[0])


def _load(context: RankContext) -> SteppedStage[Any]:
    part = context.proposal.parts[context.rank]
    shard = pipeline_stage(context.setup.config, Span(part.first_layer, part.end_layer))
    return SteppedStage(context.load(shard, Solo()), context.links)


class PipelineExecutor(Generic[Tensor]):
    """As many steps are under way as there are stages, so that all of them compute at once, and
    one more, so that none waits when another is late. Only prefill fills that one: sequences
    decode in as many groups as there are stages.
    """

    def __init__(
        self, stage: SteppedStage[Tensor], ranks: Neighbours[Tensor], others: OtherRanks
    ) -> None:
        self._stage = stage
        self._ranks = ranks
        self._others = others
        self._last = max(others.channels)
        self._steps: deque[int] = deque()

    @property
    def stages(self) -> int:
        return len(self._others.channels) + 1

    @property
    def depth(self) -> int:
        return self.stages + 1

    def submit(self, plan: StepPlan) -> None:
        with self._others.ending_on_failure():
            self._others.announce(plan)
            self._ranks.send(self._stage.begin(plan).forward(), 1)
        self._steps.append(plan.step)

    def collect(self) -> StepResult:
        with self._others.ending_on_failure():
            return self._receive(self._steps.popleft())

    def close(self) -> None:
        self._others.abort()

    def _receive(self, step: int) -> StepResult:
        header, payload = self._others.channels[self._last].receive()
        if isinstance(header, FailureHeader):
            raise LinkLost(f"rank {self._last} failed: {header.message}")
        if header != ResultHeader(step):
            raise ProtocolError(f"{header} came; the result of step {step} was due")
        try:
            return msgspec.msgpack.decode(payload, type=StepResult)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"the result of step {step} is malformed: {error}") from error


class PipelineWork(Generic[Tensor]):
    """Takes states from the rank before, gives its own to the next, or samples as the last."""

    def __init__(
        self, stage: SteppedStage[Tensor], ranks: Neighbours[Tensor], to_first: Channel
    ) -> None:
        self._stage = stage
        self._ranks = ranks
        self._to_first = to_first

    def run(self, plan: StepPlan) -> None:
        ranks, run = self._ranks, self._stage.begin(plan)
        states = run.forward(ranks.receive(self._stage.states_like(run.rows), ranks.rank - 1))
        if ranks.rank + 1 < ranks.size:
            ranks.send(states, ranks.rank + 1)
            return
        result = run.result(run.logits(states))
        self._to_first.send(ResultHeader(plan.step), _encode(result))
