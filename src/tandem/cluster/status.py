"""What a node says about itself, for `tandem cluster status`."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tandem.cluster.peers import Peer
from tandem.cluster.session import LinkFigures
from tandem.cluster.state import State
from tandem.protocol.cluster import Collectives, Proposal
from tandem.security import NodeId


class RankStatus(msgspec.Struct, frozen=True):
    rank: int
    node_id: str
    name: str
    address: str
    layers: str
    round_trip_us: float | None
    mb_per_s: float | None


class ClusterStatus(msgspec.Struct, frozen=True):
    """What `tandem cluster status` shows; plan and ranks only while the session is active."""

    state: State
    node_id: str
    name: str
    ranks_wanted: int
    collectives: Collectives
    connected: list[str]
    refusals: dict[str, str]
    rank: int | None = None
    strategy: str | None = None
    why: str | None = None
    ranks: list[RankStatus] = []


def rank_statuses(
    proposal: Proposal,
    own_name: str,
    peers: Mapping[NodeId, Peer],
    links: Mapping[int, LinkFigures],
) -> list[RankStatus]:
    """One entry a rank of the plan, with the links that this rank has measured."""
    statuses = []
    for rank, part in enumerate(proposal.parts):
        peer, figures = peers.get(NodeId(part.node_id)), links.get(rank)
        statuses.append(
            RankStatus(
                rank=rank,
                node_id=part.node_id,
                name=own_name if peer is None else peer.name,
                address=f"{peer.link.host}:{peer.hello.data_port}" if peer else "here",
                layers=f"{part.first_layer}-{part.end_layer - 1}",
                round_trip_us=figures.round_trip_us if figures else None,
                mb_per_s=figures.mb_per_s if figures else None,
            )
        )
    return statuses
