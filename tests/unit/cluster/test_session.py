"""The channels of a session: opened by all or by nobody, measured, and where ranks meet."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest
from tests.support.links import TIMEOUT_S, all_paired, listening
from tests.support.members import hello
from tests.support.memory import memory_mesh, on_all_ranks

from tandem.cluster import session as module
from tandem.cluster.peers import Peer
from tandem.cluster.session import Session, measure_link, open_channels, rendezvous_of
from tandem.errors import LinkLost
from tandem.link import Channel, ControlLink, LinkCredentials
from tandem.protocol.cluster import Collectives, Invitation
from tandem.security import NodeId


class _Link(ControlLink):
    """What is known of a control connection."""

    def __init__(self, peer: NodeId, *, dialled: bool, host: str, port: int) -> None:
        self.peer, self.dialled = peer, dialled
        self.host, self.port, self.own_host = host, port, "10.0.0.9"


def _peer(node: NodeId, *, dialled: bool, port: int = 1, host: str = "127.0.0.1") -> Peer:
    return Peer(_Link(node, dialled=dialled, host=host, port=port), hello(), node[:8])


async def _open_on(
    nodes: list[LinkCredentials], opening: list[int]
) -> list[dict[int, Channel] | BaseException]:
    """What `open_channels` gives on these ranks; each has dialled those of lower rank.

    The highest rank only dials, and listens nowhere.
    """
    ids: list[NodeId] = [node.identity.node_id for node in nodes]
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(listening(node)) for node in nodes[:-1]]

        def peers_of(rank: int) -> dict[NodeId, Peer]:
            return {
                ids[other]: _peer(
                    ids[other],
                    dialled=other < rank,
                    port=listeners[other].port if other < rank else 1,
                )
                for other in range(len(nodes))
                if other != rank
            }

        return await asyncio.gather(
            *(
                open_channels(
                    nodes[rank],
                    listeners[rank] if rank < len(listeners) else None,
                    Invitation("s", list[str](ids)),
                    rank,
                    peers_of(rank),
                )
                for rank in opening
            ),
            return_exceptions=True,
        )


def test_every_rank_gets_a_channel_to_every_other(tmp_path: Path) -> None:
    opened = asyncio.run(_open_on(all_paired(tmp_path, 3), [0, 1, 2]))

    def work(rank: int) -> Session:
        channels = opened[rank]
        assert isinstance(channels, dict)
        session = Session("s", rank, channels, Collectives.SEALED, None)
        session.measure()
        return session

    sessions = on_all_ranks(3, work)
    assert set(sessions[0].links) == {1, 2}
    assert [set(session.links) for session in sessions[1:]] == [{0}, {0}]
    for session in sessions:
        assert session.slowest_round_trip_s > 0
        session.close()


def test_a_rank_that_does_not_come_leaves_no_channel_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OPEN_TIMEOUT_S", 0.2)
    nodes = all_paired(tmp_path, 3)
    before = psutil.Process().num_fds()
    opened = asyncio.run(_open_on(nodes, [0, 1]))  # rank 2 stays away
    assert all(isinstance(found, LinkLost) for found in opened)
    assert psutil.Process().num_fds() == before


def test_both_ends_measure_a_link_at_once() -> None:
    mesh = memory_mesh(2)
    figures = on_all_ranks(2, lambda rank: measure_link(mesh[rank][1 - rank]))
    assert all(each.round_trip_us > 0 and each.mb_per_s > 0 for each in figures)


def test_ranks_meet_at_rank_0_as_each_has_reached_it() -> None:
    zero, one = NodeId("0" * 64), NodeId("1" * 64)
    invitation = Invitation("s", [zero, one], 7711)
    above = rendezvous_of(invitation, {zero: _peer(zero, dialled=True, host="10.0.0.1")})
    assert above is not None
    assert (above.host, above.port, above.own_host) == ("10.0.0.1", 7711, "10.0.0.9")
    first = rendezvous_of(invitation, {one: _peer(one, dialled=False)})
    assert first is not None
    assert (first.host, first.port) == ("127.0.0.1", 7711)
    assert rendezvous_of(Invitation("s", [zero, one]), {}) is None


def test_aborting_ends_every_wait_on_the_session() -> None:
    mesh = memory_mesh(2)
    session = Session("s", 0, mesh[0], Collectives.SEALED, None)
    waiting = threading.Event()

    def wait() -> None:
        waiting.set()
        mesh[0][1].receive(patient=True)

    async def scenario() -> None:
        blocked = asyncio.ensure_future(asyncio.to_thread(wait))
        await asyncio.to_thread(waiting.wait, TIMEOUT_S)
        session.abort()
        with pytest.raises(LinkLost):
            await blocked

    asyncio.run(scenario())
