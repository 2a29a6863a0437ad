"""A node of a cluster: waits for the others, agrees on a plan, serves its rank, starts over.

All that happens to a session happens in `_live_through`, and all that a session leaves behind is
cleared in `_clear`, whichever state it ended in. Nothing here polls: states change when a
connection comes or goes, a message arrives, or a thread ends.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import msgspec
import structlog

from tandem.cluster.collectives import Rendezvous
from tandem.cluster.config import ClusterConfig, Host
from tandem.cluster.discovery import ClusterDiscovery
from tandem.cluster.facts import NodeFacts, available_memory_bytes
from tandem.cluster.peers import Peer, Peers
from tandem.cluster.plan import Member, check_invitation, check_plan, elect, make_plan
from tandem.cluster.report import report_ranks
from tandem.cluster.session import STEP_TIMEOUT_S, Session, open_channels
from tandem.cluster.state import Event, State, decide
from tandem.engine import ModelSetup, default_kv_tokens
from tandem.errors import LinkLost, PeerRefused, ProtocolError, TandemError
from tandem.link import Channel, DataListener, LinkCredentials
from tandem.protocol.cluster import (
    CLUSTER_VERSION,
    Agreement,
    Begin,
    ClusterReport,
    Collectives,
    Invitation,
    Leaving,
    Loaded,
    Parallelism,
    PeerHello,
    PeerRefusal,
    Proposal,
    ToNode,
)
from tandem.runtime import Backoff, first_failure, free_port, raise_if_cancelled
from tandem.security import NodeId

log = structlog.get_logger(__name__)

T = TypeVar("T")

_ANSWER_TIMEOUT_S = 30.0
_LOAD_TIMEOUT_S = 900.0


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

        Raises ConfigurationError without paired nodes; OSError when a port is not free.
        """
        self._config = config
        self._setup = setup
        self._host = host
        self._wrap = wrap
        self._state = State.IDLE
        self._proposal: Proposal | None = None
        self._order: list[Member] = []
        self._session: Session | None = None
        self._server_ended: asyncio.Future[TandemError] | None = None
        self._facts = facts
        self._incarnation = secrets.token_hex(8)
        self._credentials = LinkCredentials(config.identity, config.paired)
        self._listener = DataListener(
            self._credentials,
            config.listen[0] if config.listen else "0.0.0.0",  # noqa: S104
        )
        self._peers = Peers(self._credentials, self._hello, config.listen, config.peers)
        #: Sessions that became active, that were lost, and plans that fell back from TP to PP.
        self.counters = Counter[str]()
        #: Why the last session ended, or did not come about.
        self.last_end: str | None = None
        self.listening = asyncio.Event()
        self.changed = asyncio.Event()

    @property
    def state(self) -> State:
        return self._state

    @property
    def control_port(self) -> int | None:
        return self._peers.control_port

    @property
    def addresses(self) -> list[str]:
        """Where other machines reach this one, HOST:PORT; empty when it only dials."""
        if self._config.listen is None or self.control_port is None:
            return []
        return [f"{self._config.listen[0]}:{self.control_port}"]

    @property
    def role(self) -> int | None:
        """The rank to publish: only while it is true."""
        return self._session.rank if self._state is State.ACTIVE and self._session else None

    @property
    def members(self) -> list[NodeId]:
        """The nodes of the cluster that this one is in, itself included; none outside of one."""
        if self.role is None or self._proposal is None:
            return []
        return [NodeId(part.node_id) for part in self._proposal.parts]

    def report(self) -> ClusterReport:
        connected = [peer.name for peer in self._peers.connected]
        report = ClusterReport(
            self._state,
            self._config.identity.node_id,
            self._config.name,
            self._config.ranks,
            self._config.collectives,
            connected,
            dict(self._peers.refusals),
        )
        if self.role is None or self._proposal is None:
            return report
        return msgspec.structs.replace(
            report,
            rank=self.role,
            strategy=self._proposal.strategy,
            why=self._proposal.why,
            ranks=report_ranks(
                self._proposal,
                self._config.name,
                {peer.link.peer: peer for peer in self._peers.connected},
                self._session.links if self._session is not None else {},
            ),
        )

    async def run(self) -> None:
        """Until cancelled: one session after the other."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._peers.run(self.listening))
                await self.listening.wait()
                if self._config.discover_on:
                    tasks.create_task(self._discover())
                backoff = Backoff(base_s=0.2, cap_s=5.0)
                while True:
                    if await self._live_through():
                        backoff.reset()
                    raise_if_cancelled()
                    await asyncio.sleep(backoff.next_delay_s())
        finally:
            self._listener.close()

    async def _discover(self) -> None:
        discovery = ClusterDiscovery(
            self._config.identity.node_id,
            [node.node_id for node in self._config.paired],
            self._config.discover_on,
            self._peers.add_address,
        )
        await discovery.run(self._peers.control_port)

    async def _live_through(self) -> bool:
        """One session from pairing to its end; whether it was ever active."""
        self._move(Event.START)
        active, reason = False, "the node stops"
        try:
            peers = await self._complete()
            self._move(Event.COMPLETE)
            async with asyncio.TaskGroup() as tasks:
                watcher = tasks.create_task(self._watch(peers))
                session = await self._form(peers)
                self._move(Event.READY)
                active = True
                await self._serve(session)
                watcher.cancel()
        except BaseExceptionGroup as group:
            failures, others = group.split(TandemError)
            if others is not None:
                raise
            assert failures is not None
            reason = str(first_failure(failures))
        except TandemError as error:
            reason = error.message
        finally:
            await self._clear(reason)
        return active

    async def _complete(self) -> dict[NodeId, Peer]:
        """Waits until as many nodes as the cluster has ranks are connected."""
        while len(self._peers.connected) < self._config.ranks - 1:
            self._peers.changed.clear()
            await self._peers.changed.wait()
        if len(self._peers.connected) > self._config.ranks - 1:
            names = ", ".join(peer.name for peer in self._peers.connected)
            raise PeerRefused(f"more nodes than --ranks {self._config.ranks}: {names}")
        return {peer.link.peer: peer for peer in self._peers.connected}

    async def _watch(self, peers: dict[NodeId, Peer]) -> None:
        """Raises LinkLost as soon as one of the session's nodes is not connected any more."""
        while True:
            self._peers.changed.clear()
            current = {peer.link.peer: peer for peer in self._peers.connected}
            for node_id, peer in peers.items():
                if current.get(node_id) is not peer:
                    if self._session is not None:
                        self._session.abort()
                    raise LinkLost(f"{peer.name} is gone")
            await self._peers.changed.wait()

    async def _form(self, peers: dict[NodeId, Peer]) -> Session:
        own = Member(self._config.identity.node_id, self._hello())
        self._order = elect([own, *(peer.member for peer in peers.values())])
        rank = [member.node_id for member in self._order].index(own.node_id)
        others = {r: peers[m.node_id] for r, m in enumerate(self._order) if r != rank}
        invitation = await (self._invite(others) if rank == 0 else self._accept(others[0]))
        session = await self._open(invitation, rank, peers)
        proposal = await (
            self._propose(session, others) if rank == 0 else self._consider(others[0])
        )
        self._move(Event.AGREED)
        self._proposal = proposal
        chosen = (self._config.parallelism, proposal.strategy)
        self.counters["pipeline_fallbacks"] += chosen == (Parallelism.AUTO, Parallelism.PIPELINE)
        log.info("plan_agreed", rank=rank, strategy=proposal.strategy, why=proposal.why)
        await self._host.release()
        await _in_thread(lambda: session.load(self._setup, proposal))
        if rank == 0:
            await self._collect(others, Loaded(proposal.session_id), _LOAD_TIMEOUT_S)
            for peer in others.values():
                await peer.link.send(Begin(proposal.session_id))
        else:
            await others[0].link.send(Loaded(proposal.session_id))
            await _expect(others[0], Begin(proposal.session_id), _LOAD_TIMEOUT_S)
        return session

    async def _invite(self, others: dict[int, Peer]) -> Invitation:
        nodes: list[str] = [member.node_id for member in self._order]
        sealed = self._config.collectives is Collectives.SEALED
        invitation = Invitation(secrets.token_hex(16), nodes, None if sealed else free_port())
        for peer in others.values():
            await peer.link.send(invitation)
        return invitation

    async def _accept(self, first: Peer) -> Invitation:
        invitation = await first.expect(_ANSWER_TIMEOUT_S)
        if not isinstance(invitation, Invitation):
            raise ProtocolError(f"{first.name} sent {type(invitation).__name__}, not an invitation")
        await _refusing(first, lambda: check_invitation(invitation, self._order))
        return invitation

    async def _open(self, invitation: Invitation, rank: int, peers: dict[NodeId, Peer]) -> Session:
        """The session's channels, opened and measured."""

        def work() -> Session:
            channels = open_channels(self._credentials, self._listener, invitation, rank, peers)
            if self._wrap is not None:
                channels = {other: self._wrap(channel) for other, channel in channels.items()}
            # Known at once, so that whatever happens from here on ends it.
            self._session = session = Session(
                invitation.session_id,
                rank,
                channels,
                self._config.collectives,
                _rendezvous(invitation, peers),
            )
            session.measure()
            return session

        return await _in_thread(work)

    async def _propose(self, session: Session, others: dict[int, Peer]) -> Proposal:
        options = self._setup.options
        proposal = make_plan(
            self._order,
            session_id=session.session_id,
            round_trip_s=max(link.round_trip_us for link in session.links.values()) / 1e6,
            kv_tokens=options.kv_tokens or default_kv_tokens(self._setup),
            block_size=options.block_size,
        )
        for peer in others.values():
            await peer.link.send(proposal)
        await self._collect(others, Agreement(proposal.session_id), _ANSWER_TIMEOUT_S)
        return proposal

    async def _consider(self, first: Peer) -> Proposal:
        proposal = await first.expect(_ANSWER_TIMEOUT_S)
        if not isinstance(proposal, Proposal):
            raise ProtocolError(f"{first.name} sent {type(proposal).__name__}, not a plan")
        await _refusing(first, lambda: check_plan(proposal, self._order))
        await first.link.send(Agreement(proposal.session_id))
        return proposal

    async def _collect(self, others: dict[int, Peer], due: ToNode, timeout_s: float) -> None:
        for peer in others.values():
            await _expect(peer, due, timeout_s)

    async def _serve(self, session: Session) -> None:
        """Until the session ends; always by raising."""
        self.counters["cluster_sessions"] += 1
        log.info("session_active", rank=session.rank, blocks=session.blocks)
        ended = None if session.executor is not None else session.serve()
        await self._host.activate(session.executor, session.blocks)
        if ended is None:
            await asyncio.Event().wait()  # `_watch` ends it
        else:
            self._server_ended = asyncio.wrap_future(ended)
            raise await asyncio.shield(self._server_ended)

    async def _clear(self, reason: str) -> None:
        """The one place that leaves a session: afterwards nothing of it is left."""
        self.last_end = reason
        self.counters["cluster_sessions_degraded"] += self._state is State.ACTIVE
        self._move(Event.FAILED, reason=reason)
        session, self._session = self._session, None
        if session is not None:
            session.abort()
            await self._host.deactivate(reason)
            if self._server_ended is not None:
                await asyncio.wait([self._server_ended])
                self._server_ended = None
            session.close()
        for peer in self._peers.connected:
            with suppress(LinkLost):
                await peer.link.send(Leaving(reason))
        self._peers.drop_all(reason)
        self._proposal, self._order = None, []
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
            memory_bytes=available_memory_bytes(self._setup),
            bytes_per_s=self._facts.bytes_per_s,
            control_port=self._peers.control_port,
            data_port=self._listener.port,
        )


def _rendezvous(invitation: Invitation, peers: dict[NodeId, Peer]) -> Rendezvous | None:
    """At rank 0, as this node has reached it; None when the session needs none."""
    if invitation.store_port is None:
        return None
    first = peers.get(NodeId(invitation.nodes[0]))
    host = "127.0.0.1" if first is None else first.link.host
    own_host = next(iter(peers.values())).link.own_host
    return Rendezvous(host, invitation.store_port, own_host, STEP_TIMEOUT_S)


async def _expect(peer: Peer, due: ToNode, timeout_s: float) -> None:
    """Raises ProtocolError for another message than the one that is due."""
    message = await peer.expect(timeout_s)
    if message != due:
        raise ProtocolError(f"{peer.name} sent {message}; {due} was due")


async def _refusing(peer: Peer, check: Callable[[], None]) -> None:
    """Runs a check of what the peer has sent; a refusal is raised on both sides."""
    try:
        check()
    except PeerRefused as error:
        await peer.link.send(PeerRefusal(error.message))
        raise


async def _in_thread(work: Callable[[], T]) -> T:
    """Like `asyncio.to_thread`, but a cancelled caller still waits for the thread to end."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
