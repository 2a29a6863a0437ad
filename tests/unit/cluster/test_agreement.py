"""How the ranks agree: what rank 0 says and waits for, and what the others refuse."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.members import hello, members

from tandem.cluster.agreement import FirstRank, OtherRank
from tandem.cluster.peers import Peer
from tandem.engine import EngineOptions, ModelSetup, prepare
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import LinkLost, PeerRefused, ProtocolError
from tandem.link import ControlLink
from tandem.protocol.cluster import (
    Agreement,
    Begin,
    Collectives,
    Invitation,
    Leaving,
    Loaded,
    PeerRefusal,
    Proposal,
    ToNode,
)

MEMBERS = members(hello(rank=0), hello(rank=1))


class _Link(ControlLink):
    """Notes what is said to the other side."""

    def __init__(self) -> None:
        self.sent: list[ToNode] = []

    async def send(self, message: ToNode) -> None:
        self.sent.append(message)


def _peer(*says: ToNode) -> tuple[Peer, list[ToNode]]:
    """Another node that says this, and what it is told."""
    link = _Link()
    peer = Peer(link, hello(), "other")
    for message in says:
        peer.deliver(message)
    return peer, link.sent


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> ModelSetup:
    directory: Path = tmp_path_factory.mktemp("model") / "m"
    create_checkpoint(directory, family="llama", dtype="float32")
    return prepare(EngineOptions(directory=directory, device="cpu", threads=1, kv_tokens=256))


async def _lead(first: FirstRank) -> tuple[Invitation, Proposal]:
    invitation = await first.invitation()
    proposal = await first.proposal("s", 50e-6)
    await first.all_loaded("s")
    return invitation, proposal


async def _follow(other: OtherRank) -> Proposal:
    await other.invitation()
    proposal = await other.proposal("s", 0.0)
    await other.all_loaded("s")
    return proposal


def _made(setup: ModelSetup, collectives: Collectives = Collectives.SEALED) -> list[ToNode]:
    """All that rank 0 says to a rank that agrees."""
    peer, told = _peer(Agreement("s"), Loaded("s"))
    asyncio.run(_lead(FirstRank(MEMBERS, [peer], setup, collectives)))
    return told


def test_rank_0_says_who_is_which_rank_then_the_plan_then_begin(setup: ModelSetup) -> None:
    invitation, proposal, begin = _made(setup)
    assert isinstance(invitation, Invitation)
    assert invitation.nodes == ["node-0", "node-1"]
    assert isinstance(proposal, Proposal)
    assert (proposal.session_id, proposal.kv_tokens) == ("s", 256)
    assert begin == Begin("s")


def test_a_port_is_taken_only_where_sums_are_not_sealed(setup: ModelSetup) -> None:
    for kind in Collectives:
        invitation = _made(setup, kind)[0]
        assert isinstance(invitation, Invitation)
        assert (invitation.store_port is None) == (kind is Collectives.SEALED)


def test_the_others_agree_load_and_wait_for_the_beginning(setup: ModelSetup) -> None:
    _, proposal, _ = _made(setup)
    first, told = _peer(Invitation("s", ["node-0", "node-1"]), proposal, Begin("s"))
    assert asyncio.run(_follow(OtherRank(MEMBERS, first))) == proposal
    assert told == [Agreement("s"), Loaded("s")]


Change = Callable[[Invitation, Proposal], list[ToNode]]


def _swapped_ranks(invitation: Invitation, proposal: Proposal) -> list[ToNode]:
    return [Invitation("s", invitation.nodes[::-1]), proposal]


def _half_a_model(invitation: Invitation, proposal: Proposal) -> list[ToNode]:
    return [invitation, msgspec.structs.replace(proposal, parts=proposal.parts[:1])]


@pytest.mark.parametrize("change", [_swapped_ranks, _half_a_model])
def test_what_does_not_fit_is_refused_on_both_sides(setup: ModelSetup, change: Change) -> None:
    _, proposal, _ = _made(setup)
    assert isinstance(proposal, Proposal)
    first, told = _peer(*change(Invitation("s", ["node-0", "node-1"]), proposal))
    with pytest.raises(PeerRefused) as refused:
        asyncio.run(_follow(OtherRank(MEMBERS, first)))
    assert told[-1] == PeerRefusal(refused.value.message)


def _another_session(invitation: Invitation, proposal: Proposal) -> list[ToNode]:
    return [invitation, msgspec.structs.replace(proposal, session_id="older")]


def _no_invitation(invitation: Invitation, proposal: Proposal) -> list[ToNode]:
    return [proposal, invitation]


def _no_plan(invitation: Invitation, proposal: Proposal) -> list[ToNode]:
    return [invitation, Begin("s")]


def _another_beginning(invitation: Invitation, proposal: Proposal) -> list[ToNode]:
    return [invitation, proposal, Begin("older")]


@pytest.mark.parametrize("change", [_another_session, _no_invitation, _no_plan, _another_beginning])
def test_what_is_out_of_turn_is_a_protocol_error(setup: ModelSetup, change: Change) -> None:
    _, proposal, _ = _made(setup)
    assert isinstance(proposal, Proposal)
    first, _ = _peer(*change(Invitation("s", ["node-0", "node-1"]), proposal))
    with pytest.raises(ProtocolError):
        asyncio.run(_follow(OtherRank(MEMBERS, first)))


@pytest.mark.parametrize(
    ("says", "kind", "word"),
    [
        (PeerRefusal("too small"), PeerRefused, "refuses: too small"),
        (Leaving("it stops"), LinkLost, "leaves the session: it stops"),
        (Loaded("s"), ProtocolError, "was due"),
    ],
)
def test_rank_0_ends_the_attempt_with_the_reason_of_whoever_does_not_agree(
    setup: ModelSetup, says: ToNode, kind: type[Exception], word: str
) -> None:
    peer, _ = _peer(says)

    def attempt() -> Coroutine[Any, Any, object]:
        return _lead(FirstRank(MEMBERS, [peer], setup, Collectives.SEALED))

    with pytest.raises(kind, match=word):
        asyncio.run(attempt())
