"""The channels of a session: opened by all or by nobody, measured, and where ranks meet."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.links import TIMEOUT_S, all_paired
from tests.support.members import hello
from tests.support.memory import memory_mesh, on_all_ranks

from tandem.cluster import session as module
from tandem.cluster.peers import Peer
from tandem.cluster.session import Session, measure_link, open_channels, rendezvous_of
from tandem.errors import LinkLost
from tandem.link import ControlLink, DataListener, LinkCredentials
from tandem.protocol.cluster import Collectives, Invitation
from tandem.security import NodeId


class _Link(ControlLink):
    """What is known of a control connection."""

    def __init__(self, peer: NodeId, *, dialled: bool, host: str = "127.0.0.1") -> None:
        self.peer, self.dialled = peer, dialled
        self.host, self.own_host = host, "10.0.0.9"


def _peer(node: NodeId, *, dialled: bool, port: int = 1, host: str = "127.0.0.1") -> Peer:
    return Peer(_Link(node, dialled=dialled, host=host), hello(data_port=port), node[:8])


@contextmanager
def _nodes(
    directory: Path, size: int
) -> Iterator[list[tuple[LinkCredentials, DataListener, dict[NodeId, Peer]]]]:
    """Nodes of which each has dialled those of lower rank."""
    nodes = all_paired(directory, size)
    ids = [node.identity.node_id for node in nodes]
    listeners = [DataListener(node, "127.0.0.1") for node in nodes]
    try:
        yield [
            (
                nodes[rank],
                listeners[rank],
                {
                    ids[other]: _peer(ids[other], dialled=other < rank, port=listeners[other].port)
                    for other in range(size)
                    if other != rank
                },
            )
            for rank in range(size)
        ]
    finally:
        for listener in listeners:
            listener.close()


def test_every_rank_gets_a_channel_to_every_other(tmp_path: Path) -> None:
    with _nodes(tmp_path, 3) as nodes:
        ids: list[str] = [credentials.identity.node_id for credentials, _, _ in nodes]
        invitation = Invitation("s", ids)

        def work(rank: int) -> Session:
            credentials, listener, peers = nodes[rank]
            channels = open_channels(credentials, listener, invitation, rank, peers)
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
    with _nodes(tmp_path, 3) as nodes:
        ids: list[str] = [credentials.identity.node_id for credentials, _, _ in nodes]
        opened: dict[int, object] = {}

        def work(rank: int) -> None:
            credentials, listener, peers = nodes[rank]
            try:
                opened[rank] = open_channels(
                    credentials, listener, Invitation("s", ids), rank, peers
                )
            except LinkLost as error:
                opened[rank] = error

        before = threading.active_count()
        on_all_ranks(2, work)  # rank 2 stays away
        assert all(isinstance(found, LinkLost) for found in opened.values())
        assert threading.active_count() == before


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
