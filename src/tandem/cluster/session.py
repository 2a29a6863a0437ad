"""One session: the channels of an agreed plan, and this rank's part of the model on them.

Built once, ended once. An executor belongs to exactly one session; a new session has new
connections, new keys, a new executor and an empty cache.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial

import msgspec

from tandem.cluster.collectives import Rendezvous
from tandem.cluster.peers import Peer
from tandem.cluster.strategies import STRATEGIES, RankContext, ShardServer
from tandem.engine import Executor, ModelSetup
from tandem.errors import TandemError
from tandem.link import Channel, LinkCredentials, LinkListener, dial_data
from tandem.protocol.cluster import (
    Collectives,
    DataHello,
    Invitation,
    Proposal,
    TensorHeader,
)
from tandem.runtime import first_failure, in_thread
from tandem.security import NodeId

#: A step's sends and waits make progress within this, or the session is over.
STEP_TIMEOUT_S = 30.0
_OPEN_TIMEOUT_S = 30.0
_MEASURED_TRIPS = 32
_MEASURED_BYTES = 4 << 20


class LinkFigures(msgspec.Struct, frozen=True):
    """A data channel as measured when the session began, TLS and framing included."""

    round_trip_us: float
    mb_per_s: float


class Session:
    """`executor` on rank 0, `server` on the others, once loaded; `close` ends what they use."""

    def __init__(
        self,
        session_id: str,
        rank: int,
        channels: dict[int, Channel],
        collectives: Collectives,
        rendezvous: Rendezvous | None,
    ) -> None:
        """`rendezvous` is None where sums are sealed."""
        self.session_id = session_id
        self.rank = rank
        self._collectives = collectives
        self._rendezvous = rendezvous
        self.blocks = 0
        self.links: dict[int, LinkFigures] = {}
        self.executor: Executor | None = None
        self.server: ShardServer | None = None
        self._channels = channels

    @property
    def slowest_round_trip_s(self) -> float:
        """Of the links that this rank has measured."""
        return max(link.round_trip_us for link in self.links.values()) / 1e6

    def measure(self) -> None:
        """Rank 0 measures its link to each other rank, all of which call this too. Blocks."""
        others = range(1, len(self._channels) + 1) if self.rank == 0 else (0,)
        self.links = {other: measure_link(self._channels[other]) for other in others}

    def load_shard(self, setup: ModelSetup, proposal: Proposal) -> None:
        """Reads this rank's weights. Blocks. Raises CheckpointError or ConfigurationError."""
        context = RankContext(
            setup, proposal, self.rank, self._channels, self._collectives, self._rendezvous
        )
        strategy = STRATEGIES[proposal.strategy]
        self.blocks = context.blocks
        if self.rank == 0:
            self.executor = strategy.build_executor(context)
        else:
            self.server = ShardServer(strategy.build_work(context), self._channels[0])

    def serve(self) -> Future[TandemError]:
        """Starts the shard server's thread; the future says why it ended."""
        assert self.server is not None, "rank 0 has an executor"
        ended: Future[TandemError] = Future()
        server = self.server

        def run() -> None:
            ended.set_result(server.run())

        threading.Thread(target=run, name=f"rank-{self.rank}").start()
        return ended

    def abort(self) -> None:
        """Ends every wait on the session's channels, from any thread."""
        for channel in self._channels.values():
            channel.abort()

    def close(self) -> None:
        """Once no thread runs on the session any more."""
        for channel in self._channels.values():
            channel.close()
        self.executor = self.server = None


def rendezvous_of(invitation: Invitation, peers: Mapping[NodeId, Peer]) -> Rendezvous | None:
    """At rank 0, as this node has reached it; None when the session needs none."""
    if invitation.store_port is None:
        return None
    first = peers.get(NodeId(invitation.nodes[0]))
    host = "127.0.0.1" if first is None else first.link.host
    own_host = next(iter(peers.values())).link.own_host
    return Rendezvous(host, invitation.store_port, own_host, STEP_TIMEOUT_S)


def measure_link(channel: Channel) -> LinkFigures:
    """Both ends call it at the same time. Takes a few milliseconds."""
    small, large = memoryview(bytes(16)), memoryview(bytes(_MEASURED_BYTES))
    channel.swap(TensorHeader(0, 0, "uint8", [0]), small)
    trips, started = [], time.perf_counter()
    for _ in range(_MEASURED_TRIPS):
        channel.swap(TensorHeader(0, 0, "uint8", [0]), small)
        now = time.perf_counter()
        trips.append(now - started)
        started = now
    channel.swap(TensorHeader(0, 0, "uint8", [0]), large)
    seconds = time.perf_counter() - started
    return LinkFigures(round(min(trips) * 1e6, 1), round(_MEASURED_BYTES / seconds / 1e6, 1))


async def open_channels(
    credentials: LinkCredentials,
    listener: LinkListener | None,
    invitation: Invitation,
    rank: int,
    peers: Mapping[NodeId, Peer],
) -> dict[int, Channel]:
    """A channel to every other rank; who dialled the control connection dials this one too.

    `listener` is None at a node that only dials. Raises LinkLost or PeerRefused, and then has
    closed what it had opened.
    """
    ranks = {NodeId(node_id): number for number, node_id in enumerate(invitation.nodes)}
    session_id, hello = invitation.session_id, DataHello(invitation.session_id, rank)
    coming = [peer.link.peer for peer in peers.values() if not peer.link.dialled]
    expected = {ranks[node_id]: node_id for node_id in coming}
    channels: dict[int, Channel] = {}

    def dial(peer: Peer) -> None:
        address, node_id = (peer.link.host, peer.link.port), peer.link.peer
        channels[ranks[node_id]] = dial_data(
            credentials, address, node_id, hello, timeout_s=STEP_TIMEOUT_S
        )

    async def claim() -> None:
        assert listener is not None, "somebody has dialled this node"
        channels.update(
            await listener.claim(
                session_id, expected, deadline_s=_OPEN_TIMEOUT_S, timeout_s=STEP_TIMEOUT_S
            )
        )

    try:
        # All at once: a rank that waits for its own dial to be answered must still answer others.
        async with asyncio.TaskGroup() as tasks:
            for peer in peers.values():
                if peer.link.dialled:
                    tasks.create_task(in_thread(partial(dial, peer)))
            if expected:
                tasks.create_task(claim())
    except BaseException as error:
        for channel in channels.values():
            channel.close()
        if isinstance(error, BaseExceptionGroup):
            raise first_failure(error) from error
        raise
    return channels
