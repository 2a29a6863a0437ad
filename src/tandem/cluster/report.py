"""What is said of a session: its ranks, as `tandem cluster status` shows them, and its sums."""

from __future__ import annotations

from collections.abc import Mapping

from tandem.cluster.peers import Peer
from tandem.cluster.session import LinkFigures
from tandem.protocol.cluster import Collectives, Parallelism, Proposal, RankReport
from tandem.runtime import address_text
from tandem.security import NodeId


def adds_up_in_plaintext(proposal: Proposal | None, collectives: Collectives) -> bool:
    """Only tensor parallel ranks have sums; a pipeline's states go through the sealed link."""
    if proposal is None or proposal.strategy is not Parallelism.TENSOR:
        return False
    return collectives is not Collectives.SEALED


def report_ranks(
    proposal: Proposal,
    own_name: str,
    peers: Mapping[NodeId, Peer],
    links: Mapping[int, LinkFigures],
) -> list[RankReport]:
    """One entry a rank of the plan, with the links that this rank has measured."""
    reports = []
    for rank, part in enumerate(proposal.parts):
        peer, figures = peers.get(NodeId(part.node_id)), links.get(rank)
        reports.append(
            RankReport(
                rank=rank,
                node_id=part.node_id,
                name=own_name if peer is None else peer.name,
                address=address_text(peer.link.host, peer.link.port) if peer else "here",
                layers=f"{part.first_layer}-{part.end_layer - 1}",
                round_trip_us=figures.round_trip_us if figures else None,
                mb_per_s=figures.mb_per_s if figures else None,
            )
        )
    return reports
