"""A pipeline: each rank runs some of the layers, on the states that the rank before it sends.

Rank 0 sends the plan to all, runs the first layers and passes on; the last rank samples and
answers. A step is never sent twice: whatever fails ends the session, and a new one starts from an
empty cache.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Generic

import msgspec

from tandem.cluster.members import Member, asked_split
from tandem.cluster.strategies.base import (
    OtherRanks,
    RankContext,
    RankWork,
    SteppedStage,
)
from tandem.cluster.strategies.costs import (
    WEIGHTS_SHARE,
    Held,
    layers_bytes,
    model_bytes,
    read_bytes,
)
from tandem.engine import (
    Executor,
    Neighbours,
    Solo,
    Span,
    StepPlan,
    StepResult,
    Tensor,
    pipeline_stage,
)
from tandem.errors import LinkLost, PeerRefused, ProtocolError
from tandem.link import Channel
from tandem.protocol.cluster import FailureHeader, ModelFacts, Part, ResultHeader

_encode = msgspec.msgpack.Encoder().encode

#: How often a token that passes the layers also passes the head: those of a prompt do not.
_HEAD_SHARE = 0.2


def divide(members: Sequence[Member]) -> list[Part]:
    """Every rank has some of the layers. Raises PeerRefused when they do not fit."""
    counts = split_layers(members)
    ends = accumulate(counts)
    return [
        Part(member.node_id, end - count, end)
        for member, count, end in zip(members, counts, ends, strict=True)
    ]


def split_layers(members: Sequence[Member]) -> list[int]:
    """How many layers each rank runs: as operators say, else by speed as far as memory allows.

    Raises PeerRefused when an operator's split does not fit the model, or the model not the
    machines.
    """
    model, size = members[0].hello.model, len(members)
    asked = asked_split(members)
    if asked is not None:
        return asked
    if model.layers < size:
        raise PeerRefused(f"{model.layers} layers cannot be divided among {size} ranks")
    counts = _balanced(members)
    if counts is None:
        room = [member.hello.memory_bytes * WEIGHTS_SHARE / 1e9 for member in members]
        raise PeerRefused(
            f"the model needs {model_bytes(model) / 1e9:.1f} GB, and its layers do not fit: these "
            f"machines have room for {', '.join(f'{each:.1f}' for each in room)} GB"
        )
    return counts


def is_whole(parts: Sequence[Part], layers: int) -> bool:
    starts = [0, *(part.end_layer for part in parts)]
    chained = [part.first_layer for part in parts] == starts[:-1] and starts[-1] == layers
    return chained and all(part.first_layer < part.end_layer for part in parts)


def token_s(members: Sequence[Member], parts: Sequence[Part], hop_s: float) -> float:
    """One stage after the other, and a message after each."""
    model = members[0].hello.model
    stages_s = sum(
        _read_bytes(model, part.first_layer, part.end_layer) / member.hello.bytes_per_s
        for member, part in zip(members, parts, strict=True)
    )
    return stages_s + len(parts) * hop_s


def held(model: ModelFacts, parts: Sequence[Part], rank: int) -> Held:
    part = parts[rank]
    share = (part.end_layer - part.first_layer) / model.layers
    return Held(
        _held_bytes(model, part.first_layer, part.end_layer), model.kv_bytes_per_token * share
    )


def _held_bytes(model: ModelFacts, first: int, end: int) -> int:
    """The first and the last stage hold a vocabulary each."""
    edges = (first == 0) + (end == model.layers)
    return layers_bytes(model, first, end) + model.embedding_bytes * edges


def _read_bytes(model: ModelFacts, first: int, end: int, head_share: float = 1.0) -> float:
    """What a stage reads for a token: the head counts, an embedding is one row."""
    head = head_share * model.embedding_bytes if end == model.layers else 0
    return read_bytes(model, first, end) + head


def _balanced(members: Sequence[Member]) -> list[int] | None:
    """The split whose slowest stage is fastest, then its second slowest; None if none fits.

    One for all steps under way: a pipeline is as fast as its slowest stage.
    """
    model = members[0].hello.model
    slowest = min(member.hello.bytes_per_s for member in members)
    # In quarters of the slowest: a measurement's noise must not make a split uneven.
    speeds = [round(4 * member.hello.bytes_per_s / slowest) / 4 for member in members]

    def stage_s(rank: int, first: int, end: int) -> float:
        room = members[rank].hello.memory_bytes * WEIGHTS_SHARE
        if _held_bytes(model, first, end) > room:
            return math.inf
        return _read_bytes(model, first, end, _HEAD_SHARE) / speeds[rank]

    return _fastest_cut(model.layers, len(members), stage_s)


def _fastest_cut(
    layers: int, size: int, stage_s: Callable[[int, int, int], float]
) -> list[int] | None:
    """Cuts layers into a run for each rank, and returns their lengths.

    `stage_s(rank, first, end)` is infinite for what may not be; None when every cut has such a
    run. Cuts compare by their slowest run, equals by the next slowest, and so on; among those that
    are equal in all of them the earlier rank gets more.
    """
    reached: dict[int, tuple[list[float], list[int]]] = {0: ([], [])}
    for rank in range(size):
        longer: dict[int, tuple[list[float], list[int]]] = {}
        for first in sorted(reached, reverse=True):
            seconds, counts = reached[first]
            for end in range(first + 1, layers - (size - rank - 1) + 1):
                joined = sorted([*seconds, stage_s(rank, first, end)], reverse=True)
                if joined[0] < math.inf and (end not in longer or joined < longer[end][0]):
                    longer[end] = (joined, [*counts, end - first])
        reached = longer
    return reached[layers][1] if layers in reached else None


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
