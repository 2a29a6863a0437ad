"""How the ranks agree on a session: messages 3 and 4 of `tandem.protocol.cluster.between_nodes`.

Rank 0 says what is next and waits for all; the others check it and follow. What does not fit is
refused on both sides, and ends the attempt. Every step raises LinkLost, PeerRefused or
ProtocolError.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

from tandem.cluster.members import Member
from tandem.cluster.peers import Peer
from tandem.cluster.plan import check_invitation, check_plan, make_plan
from tandem.engine import ModelSetup, default_kv_tokens
from tandem.errors import PeerRefused, ProtocolError
from tandem.protocol.cluster import (
    Agreement,
    Begin,
    Collectives,
    Invitation,
    Loaded,
    PeerRefusal,
    Proposal,
    ToNode,
)
from tandem.runtime import free_port

_ANSWER_TIMEOUT_S = 30.0
_LOAD_TIMEOUT_S = 900.0


class RankSide(Protocol):
    """One rank's side of the conversation, in the order of the calls."""

    async def invitation(self) -> Invitation:
        """The session's name, and the order of ranks."""
        ...

    async def proposal(self, session_id: str, round_trip_s: float) -> Proposal:
        """The plan, agreed by all. `round_trip_s` is the slowest link's, as rank 0 measured it."""
        ...

    async def all_loaded(self, session_id: str) -> None:
        """Called with this rank's shard in memory; returns when steps may come."""
        ...

    async def refuse(self, reason: str) -> None:
        """Tells who waits for this rank that the session will not come about, and why."""
        ...


class FirstRank:
    """Rank 0: makes the plan."""

    def __init__(
        self,
        members: Sequence[Member],
        others: Sequence[Peer],
        setup: ModelSetup,
        collectives: Collectives,
    ) -> None:
        """`members` are all nodes, this one included, in the order of ranks."""
        self._members = members
        self._others = others
        self._setup = setup
        self._collectives = collectives

    async def invitation(self) -> Invitation:
        nodes: list[str] = [member.node_id for member in self._members]
        sealed = self._collectives is Collectives.SEALED
        invitation = Invitation(secrets.token_hex(16), nodes, None if sealed else free_port())
        await self._tell(invitation)
        return invitation

    async def proposal(self, session_id: str, round_trip_s: float) -> Proposal:
        options = self._setup.options
        try:
            proposal = make_plan(
                self._members,
                session_id=session_id,
                round_trip_s=round_trip_s,
                kv_tokens=options.kv_tokens or default_kv_tokens(self._setup),
                block_size=options.block_size,
            )
        except PeerRefused as error:
            await self.refuse(error.message)
            raise
        await self._tell(proposal)
        await self._collect(Agreement(session_id), _ANSWER_TIMEOUT_S)
        return proposal

    async def all_loaded(self, session_id: str) -> None:
        await self._collect(Loaded(session_id), _LOAD_TIMEOUT_S)
        await self._tell(Begin(session_id))

    async def refuse(self, reason: str) -> None:
        await self._tell(PeerRefusal(reason))

    async def _tell(self, message: ToNode) -> None:
        for peer in self._others:
            await peer.link.send(message)

    async def _collect(self, due: ToNode, timeout_s: float) -> None:
        for peer in self._others:
            await _expect(peer, due, timeout_s)


class OtherRank:
    """A rank above 0: follows `first`, or refuses."""

    def __init__(self, members: Sequence[Member], first: Peer) -> None:
        """`members` are all nodes, this one included, in the order of ranks."""
        self._members = members
        self._first = first

    async def invitation(self) -> Invitation:
        invitation = await self._first.expect(_ANSWER_TIMEOUT_S)
        if not isinstance(invitation, Invitation):
            raise ProtocolError(
                f"{self._first.name} sent {type(invitation).__name__}, not an invitation"
            )
        await self._refusing(lambda: check_invitation(invitation, self._members))
        return invitation

    async def proposal(self, session_id: str, round_trip_s: float) -> Proposal:  # noqa: ARG002
        proposal = await self._first.expect(_ANSWER_TIMEOUT_S)
        if not isinstance(proposal, Proposal):
            raise ProtocolError(f"{self._first.name} sent {type(proposal).__name__}, not a plan")
        if proposal.session_id != session_id:
            raise ProtocolError(f"{self._first.name} sent another session's plan")
        await self._refusing(lambda: check_plan(proposal, self._members))
        await self._first.link.send(Agreement(session_id))
        return proposal

    async def all_loaded(self, session_id: str) -> None:
        await self._first.link.send(Loaded(session_id))
        await _expect(self._first, Begin(session_id), _LOAD_TIMEOUT_S)

    async def refuse(self, reason: str) -> None:
        await self._first.link.send(PeerRefusal(reason))

    async def _refusing(self, check: Callable[[], None]) -> None:
        """Runs a check of what rank 0 has sent; a refusal is raised on both sides."""
        try:
            check()
        except PeerRefused as error:
            await self.refuse(error.message)
            raise


async def _expect(peer: Peer, due: ToNode, timeout_s: float) -> None:
    """Raises ProtocolError for another message than the one that is due."""
    message = await peer.expect(timeout_s)
    if message != due:
        raise ProtocolError(f"{peer.name} sent {message}; {due} was due")
