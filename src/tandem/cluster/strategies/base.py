"""What every strategy is made of: what a rank is built from, and the two ends to build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import msgspec

from tandem.cluster.collectives.sealed import LinkCommunicator
from tandem.engine import Executor, ModelSetup, StepPlan
from tandem.link import Channel, LinkUse
from tandem.protocol.cluster import PlanHeader, Proposal

_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True)
class RankContext:
    """One rank of an agreed plan: its model, its channels, how it adds up with the others.

    `sums` makes the group that adds up partial sums. It may wait for the other ranks, so only a
    strategy that has such sums calls it, once.
    """

    setup: ModelSetup
    proposal: Proposal
    rank: int
    channels: dict[int, Channel]
    sums: Callable[[], LinkCommunicator]

    @property
    def size(self) -> int:
        return len(self.proposal.parts)

    @property
    def blocks(self) -> int:
        """Of the KV cache, on each rank."""
        return self.proposal.kv_tokens // self.proposal.block_size


class LinkedExecutor(Executor, Protocol):
    """An executor over links."""

    @property
    def link_use(self) -> LinkUse:
        """Of all its links, until now."""
        ...


class RankWork(Protocol):
    """The part of a step that a rank above 0 runs. Called from one thread, step by step."""

    def run(self, plan: StepPlan) -> None:
        """Raises LinkLost or ProtocolError; the session is then over."""
        ...


@dataclass(frozen=True)
class Strategy:
    """Both ends of one way to run a step on several ranks.

    Each of the two reads this rank's weights: blocks, and raises CheckpointError or
    ConfigurationError.
    """

    build_executor: Callable[[RankContext], LinkedExecutor]
    build_work: Callable[[RankContext], RankWork]


class OtherRanks:
    """Rank 0's channels: every plan goes to all, and whatever fails ends the session for all."""

    def __init__(self, channels: dict[int, Channel]) -> None:
        self.channels = channels

    @property
    def link_use(self) -> LinkUse:
        used = [channel.use for channel in self.channels.values()]
        return LinkUse(
            sum(use.seconds for use in used),
            sum(use.frames for use in used),
            sum(use.bytes for use in used),
        )

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
