"""What a strategy is, and what both its ends are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol

import msgspec

from tandem.cluster.collectives import COLLECTIVES, Rendezvous, SealedCommunicator
from tandem.cluster.members import Member
from tandem.cluster.strategies.costs import Held
from tandem.engine import (
    Communicator,
    Executor,
    ModelSetup,
    RankGroup,
    Shard,
    Stage,
    StageRun,
    StepPlan,
    Tensor,
)
from tandem.link import Channel
from tandem.protocol.cluster import Collectives, ModelFacts, Part, PlanHeader, Proposal

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True)
class RankContext:
    """One rank of an agreed plan: its model, its channels, how it adds up with the others.

    `rendezvous` is None where sums are sealed.
    """

    setup: ModelSetup
    proposal: Proposal
    rank: int
    channels: dict[int, Channel]
    collectives: Collectives = Collectives.SEALED
    rendezvous: Rendezvous | None = None

    @property
    def size(self) -> int:
        return len(self.proposal.parts)

    @property
    def blocks(self) -> int:
        """Of the KV cache, on each rank."""
        return self.proposal.kv_tokens // self.proposal.block_size

    @cached_property
    def links(self) -> SealedCommunicator[Any]:
        """To all other ranks. Raises ProtocolError when a channel is missing."""
        return SealedCommunicator(self.rank, self.channels, self.setup.backend.tensors)

    def open_sums(self) -> Communicator[Any]:
        """What adds up partial sums. May wait for the other ranks, which all call it too.

        Raises LinkLost when they do not come.
        """
        return COLLECTIVES[self.collectives](self.links, self.rendezvous)

    def load(self, shard: Shard, sums: Communicator[Any]) -> Stage[Any]:
        """Reads the shard's weights. Blocks; raises CheckpointError."""
        return self.setup.backend.load_stage(self.setup, shard, sums, self.blocks)


class SteppedStage(Generic[Tensor]):
    """A rank's `Stage`, and the group that must know each step before the stage runs it.

    No strategy has a stage but in this form, so no tensor goes out under another step's number.
    """

    def __init__(self, stage: Stage[Tensor], group: RankGroup) -> None:
        self._stage = stage
        self._group = group

    def begin(self, plan: StepPlan) -> StageRun[Tensor]:
        self._group.begin(plan.step)
        return self._stage.begin(plan)

    def states_like(self, rows: int) -> Tensor:
        return self._stage.states_like(rows)


class RankWork(Protocol):
    """The part of a step that a rank above 0 runs. Called from one thread, step by step."""

    def run(self, plan: StepPlan) -> None:
        """Raises LinkLost or ProtocolError; the session is then over."""
        ...


class Strategy(Protocol):
    """One way to run a model on several ranks: how it is divided, what it costs, both its ends.

    A module implements it. The first four are pure functions of what the nodes have said; members
    and parts are in the order of ranks.
    """

    def divide(self, members: Sequence[Member]) -> list[Part]:
        """Each member's part. Raises PeerRefused with the reason why there is no such plan."""
        ...

    def is_whole(self, parts: Sequence[Part], layers: int) -> bool:
        """Whether the parts of somebody else's plan make a model of so many layers."""
        ...

    def token_s(self, members: Sequence[Member], parts: Sequence[Part], hop_s: float) -> float:
        """Seconds that one token takes; `hop_s` is what a message to another rank takes."""
        ...

    def held(self, model: ModelFacts, parts: Sequence[Part], rank: int) -> Held:
        """What one rank has in memory."""
        ...

    def build_executor(self, context: RankContext) -> Executor:
        """Rank 0's end. Reads its weights: blocks; raises CheckpointError or LinkLost."""
        ...

    def build_work(self, context: RankContext) -> RankWork:
        """The end of every other rank. As `build_executor`."""
        ...


class OtherRanks:
    """Rank 0's channels: every plan goes to all, and whatever fails ends the session for all."""

    def __init__(self, channels: dict[int, Channel]) -> None:
        self.channels = channels

    def announce(self, plan: StepPlan) -> None:
        payload = _encode(plan)
        for channel in self.channels.values():
            channel.send(PlanHeader(plan.step), payload)

    @contextmanager
    def ending_on_failure(self) -> Iterator[None]:
        """A step that fails here leaves the others in the middle of it: the session is over."""
        try:
            yield
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """The end of the executor is the end of its session: the other ranks stop waiting."""
        for channel in self.channels.values():
            channel.abort()
