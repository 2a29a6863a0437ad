"""A node of a cluster: waits for the others, agrees on a plan, serves its rank, starts over.

All that happens to a session happens in `_live_through`, and all that a session leaves behind is
cleared in `_clear`, whichever state it ended in. Nothing here polls: states change when a
connection comes or goes, a message arrives, or a thread ends.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NoReturn

import structlog

from tandem.cluster.agreement import FirstRank, OtherRank, RankSide
from tandem.cluster.attempts import Attempts
from tandem.cluster.config import ClusterConfig, Host
from tandem.cluster.discovery import ClusterDiscovery, hosts_behind
from tandem.cluster.facts import NodeFacts, available_memory_bytes
from tandem.cluster.members import Member, elect
from tandem.cluster.pairings import follow_pairings
from tandem.cluster.peers import Peer, Peers
from tandem.cluster.report import adds_up_in_plaintext, report_ranks
from tandem.cluster.session import Session, open_channels, rendezvous_of
from tandem.cluster.state import Event, State, decide
from tandem.cluster.strategies.costs import model_bytes
from tandem.engine import ModelSetup
from tandem.errors import (
    CheckpointError,
    ConfigurationError,
    LinkLost,
    PeerRefused,
    TandemError,
)
from tandem.link import Channel, LinkCredentials, LinkListener
from tandem.protocol.cluster import (
    CLUSTER_VERSION,
    ClusterReport,
    Invitation,
    Leaving,
    Parallelism,
    PeerHello,
    Proposal,
    RankReport,
)
from tandem.runtime import Backoff, address_text, first_failure, in_thread, raise_if_cancelled
from tandem.security import NodeId, PairedNode

log = structlog.get_logger(__name__)


class ClusterNode:
    def __init__(
        self,
        config: ClusterConfig,
        setup: ModelSetup,
        facts: NodeFacts,
        host: Host,
        wrap: Callable[[Channel], Channel] | None = None,
    ) -> None:
        """`wrap` is put around every data channel, by whoever measures them.

        Raises ConfigurationError without paired nodes, or when the address cannot be listened on.
        """
        self._config = config
        self._setup = setup
        self._host = host
        self._wrap = wrap
        self._state = State.IDLE
        self._proposal: Proposal | None = None
        self._session: Session | None = None
        self._server_ended: asyncio.Future[TandemError] | None = None
        self._facts = facts
        self._incarnation = secrets.token_hex(8)
        self._credentials = LinkCredentials(config.identity, config.paired)
        self._listener = (
            None if config.listen is None else LinkListener(self._credentials, config.listen)
        )
        self._peers = Peers(self._credentials, self._hello, self._listener, config.peers)
        self._counters = Counter(
            cluster_sessions=0, cluster_sessions_degraded=0, pipeline_fallbacks=0
        )
        self._attempts = Attempts()
        self._released = False
        #: Why the last session ended, or did not come about.
        self.last_end: str | None = None
        self.changed = asyncio.Event()

    @property
    def state(self) -> State:
        return self._state

    @property
    def model_bytes(self) -> int:
        """All weights, as one machine would hold them."""
        return model_bytes(self._facts.model)

    @property
    def port(self) -> int | None:
        """The one that it listens on, for all that other machines want of it."""
        return None if self._listener is None else self._listener.port

    @property
    def why_not(self) -> str:
        """Why there is no session at the moment."""
        refusals = [f"{who}: {reason}" for who, reason in self._peers.refusals.items()]
        return "; ".join([*refusals, *([self.last_end] if self.last_end else [])]) or (
            f"{len(self._peers.connected)} of {self._config.ranks - 1} other machines are there"
        )

    @property
    def _releasable_bytes(self) -> int:
        """What the weights take that make way for a session's."""
        return self.model_bytes if self._host.serves_alone else 0

    @property
    def counters(self) -> dict[str, int]:
        """Sessions that became active, that were lost, plans that fell back from TP to PP, and
        connections to the port that were turned away.
        """
        refused = 0 if self._listener is None else self._listener.refusals.count
        return {**self._counters, "cluster_connections_refused": refused}

    @property
    def addresses(self) -> list[str]:
        """Where other machines reach this one, HOST:PORT; empty when it only dials."""
        if self._config.listen is None or self.port is None:
            return []
        return [address_text(host, self.port) for host in hosts_behind(self._config.listen[0])]

    @property
    def role(self) -> int | None:
        """The rank to publish: only while it is true."""
        return self._session.rank if self._state is State.ACTIVE and self._session else None

    @property
    def members(self) -> list[NodeId]:
        """The nodes of the cluster that this one is in, itself included; none outside of one.

        From the moment that they have agreed until nothing of the session is left: whoever goes by
        who reads prompts here must know before the first, and until after the last.
        """
        parts = [] if self._proposal is None else self._proposal.parts
        return [NodeId(part.node_id) for part in parts]

    @property
    def adds_up_in_plaintext(self) -> bool:
        """Whether what is computed here crosses a wire unencrypted, as long as `members` do."""
        return adds_up_in_plaintext(self._proposal, self._config.collectives)

    def report(self) -> ClusterReport:
        active = self._proposal if self.role is not None else None
        return ClusterReport(
            state=self._state,
            node_id=self._config.identity.node_id,
            name=self._config.name,
            ranks_wanted=self._config.ranks,
            collectives=self._config.collectives,
            connected=[peer.name for peer in self._peers.connected.values()],
            refusals=dict(self._peers.refusals),
            rank=self.role,
            strategy=None if active is None else active.strategy,
            why=None if active is None else active.why,
            ranks=[] if active is None else self._ranks(active),
        )

    def _ranks(self, proposal: Proposal) -> list[RankReport]:
        links = {} if self._session is None else self._session.links
        return report_ranks(proposal, self._config.name, self._peers.connected, links)

    async def run(self) -> None:
        """Until cancelled: one session after the other."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._peers.run())
            if self._config.pairings is not None:
                tasks.create_task(follow_pairings(self._config.pairings, self._trust))
            if self._config.discover_on:
                tasks.create_task(self._discover())
            backoff = Backoff(base_s=0.2, cap_s=5.0)
            while True:
                if await self._live_through():
                    backoff.reset()
                raise_if_cancelled()
                await asyncio.sleep(backoff.next_delay_s())

    def _trust(self, paired: list[PairedNode]) -> None:
        """Another machine was paired with this one, or one is paired no more."""
        try:
            self._credentials.trust(paired)
        finally:  # without its key a machine trusts nobody new, but whoever is removed goes
            self._peers.drop_strangers()

    async def _discover(self) -> None:
        discovery = ClusterDiscovery(
            self._config.identity.node_id,
            self._credentials.trusts,
            self._config.discover_on,
            self._peers.add_address,
        )
        await discovery.run(self.port)

    async def _live_through(self) -> bool:
        """One session from pairing to its end; whether it was ever active."""
        self._move(Event.START)
        active, reason = False, "the node stops"
        members: list[Member] = []
        try:
            peers, members = await self._meet()
            self._move(Event.COMPLETE)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._watch(peers))
                session = await self._form(peers, members)
                self._move(Event.READY)
                active = True
                await self._serve(session)
        except (BaseExceptionGroup, TandemError) as caught:
            error = _ours(caught)
            reason = error.message
            if isinstance(error, PeerRefused) and members:
                self._attempts.refused(members, time.monotonic())
        finally:
            await self._clear(reason)
        return active

    async def _meet(self) -> tuple[dict[NodeId, Peer], list[Member]]:
        """The others, and all in the order of ranks, once an attempt is due.

        Rank 0 waits while it would only be refused again, the others until it invites them.
        """
        while True:
            peers = await self._peers.complete(self._config.ranks - 1)
            own = Member(self._config.identity.node_id, self._hello())
            members = elect([own, *(peer.member for peer in peers.values())])
            if await self._is_due(members, peers):
                return peers, members

    async def _is_due(self, members: list[Member], peers: dict[NodeId, Peer]) -> bool:
        """Returns when it is time for an attempt; False when these are not all there any more."""
        if members[0].node_id in peers:
            return await self._comes_first(peers[members[0].node_id].spoken.wait(), peers)
        delay_s = self._attempts.delay_s(members, time.monotonic())
        return not delay_s or await self._comes_first(asyncio.sleep(delay_s), peers)

    async def _comes_first(
        self, due: Coroutine[Any, Any, object], peers: dict[NodeId, Peer]
    ) -> bool:
        """Whether what is `due` comes while all of these are connected."""
        waiting = asyncio.ensure_future(due)
        lost = asyncio.ensure_future(self._peers.first_lost(peers))
        try:
            await asyncio.wait([waiting, lost], return_when=asyncio.FIRST_COMPLETED)
            return not lost.done()
        finally:
            waiting.cancel()
            lost.cancel()

    async def _watch(self, peers: dict[NodeId, Peer]) -> NoReturn:
        """Ends the session as soon as one of its nodes is not connected any more."""
        lost = await self._peers.first_lost(peers)
        if self._session is not None:
            self._session.abort()
        raise lost.last_word or LinkLost(f"{lost.name} is gone")

    async def _form(self, peers: dict[NodeId, Peer], members: list[Member]) -> Session:
        """From connected peers to a session whose ranks have all loaded their shard."""
        rank = [member.node_id for member in members].index(self._config.identity.node_id)
        side = self._side(rank, members, peers)
        session = await self._open(await side.invitation(), rank, peers)
        proposal = await side.proposal(session.session_id, session.slowest_round_trip_s)
        self._agreed(rank, proposal)
        await self._load(session, proposal, side)
        await side.all_loaded(session.session_id)
        self._attempts.succeeded()
        return session

    async def _load(self, session: Session, proposal: Proposal, side: RankSide) -> None:
        """Raises PeerRefused when this rank cannot, and has told the others."""
        self._released = True
        await self._host.release()
        try:
            await in_thread(lambda: session.load_shard(self._setup, proposal))
        except (CheckpointError, ConfigurationError) as error:
            await side.refuse(error.message)
            raise PeerRefused(error.message) from error
        # A library that finds no memory, say: this machine's part fails, its process does not.
        except Exception as error:
            log.exception("shard_not_loaded")
            reason = f"{self._config.name} cannot load its part: {type(error).__name__}"
            await side.refuse(reason)
            raise PeerRefused(reason) from error

    def _side(self, rank: int, members: list[Member], peers: dict[NodeId, Peer]) -> RankSide:
        if rank > 0:
            return OtherRank(members, peers[members[0].node_id])
        others = [peers[member.node_id] for member in members[1:]]
        return FirstRank(members, others, self._setup, self._config.collectives)

    async def _open(self, invitation: Invitation, rank: int, peers: dict[NodeId, Peer]) -> Session:
        """The session's channels, opened and measured."""
        channels = await open_channels(self._credentials, self._listener, invitation, rank, peers)
        if self._wrap is not None:
            channels = {other: self._wrap(channel) for other, channel in channels.items()}
        # Known at once, so that whatever happens from here on ends it.
        self._session = session = Session(
            invitation.session_id,
            rank,
            channels,
            self._config.collectives,
            rendezvous_of(invitation, peers),
        )
        await in_thread(session.measure)
        return session

    def _agreed(self, rank: int, proposal: Proposal) -> None:
        self._move(Event.AGREED)
        self._proposal = proposal
        chosen = self._config.parallelism is Parallelism.AUTO
        if chosen and proposal.strategy is Parallelism.PIPELINE:
            self._counters["pipeline_fallbacks"] += 1
        log.info("plan_agreed", rank=rank, strategy=proposal.strategy, why=proposal.why)

    async def _serve(self, session: Session) -> NoReturn:
        """Until the session ends; always by raising."""
        self._counters["cluster_sessions"] += 1
        log.info("session_active", rank=session.rank, blocks=session.blocks)
        if session.executor is not None:
            await self._host.activate(session.executor, session.blocks)
            while True:
                await asyncio.Event().wait()  # `_watch` ends it
        self._server_ended = asyncio.wrap_future(session.serve())
        await self._host.activate(None, session.blocks)
        raise await asyncio.shield(self._server_ended)

    async def _clear(self, reason: str) -> None:
        """The one place that leaves a session: afterwards nothing of it is left."""
        self.last_end = reason
        if self._state is State.ACTIVE:
            self._counters["cluster_sessions_degraded"] += 1
        self._move(Event.FAILED, reason=reason)
        session, self._session = self._session, None
        if session is not None:
            session.abort()
            if self._released:  # else the host serves on, as it did
                await self._host.deactivate(reason)
                self._released = False
            if self._server_ended is not None:
                await asyncio.wait([self._server_ended])
                self._server_ended = None
            session.close()
        for peer in self._peers.connected.values():
            with suppress(LinkLost):
                await peer.link.send(Leaving(reason))
        self._peers.drop_all(reason)
        self._proposal = None
        self._move(Event.CLEARED)

    def _move(self, event: Event, **fields: str) -> None:
        before, self._state = self._state, decide(self._state, event)
        log.info("cluster_state", state=self._state, before=before, **fields)
        self.changed.set()

    def _hello(self) -> PeerHello:
        config = self._config
        return PeerHello(
            version=CLUSTER_VERSION,
            name=config.name,
            incarnation=self._incarnation,
            model=self._facts.model,
            parallelism=config.parallelism,
            collectives=config.collectives,
            ranks=config.ranks,
            rank=config.rank,
            layers=config.split,
            memory_bytes=available_memory_bytes(self._setup) + self._releasable_bytes,
            bytes_per_s=self._facts.bytes_per_s,
            port=self.port,
        )


def _ours(caught: BaseException) -> TandemError:
    """The first failure that has a type of ours. Whatever else there is beside it is raised."""
    if isinstance(caught, TandemError):
        return caught
    assert isinstance(caught, BaseExceptionGroup)
    failures, others = caught.split(TandemError)
    if others is not None:
        raise caught
    assert failures is not None
    return first_failure(failures)
