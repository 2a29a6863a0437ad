"""What a node reports of a session: itself as here, the others with address and link."""

from __future__ import annotations

import pytest
from tests.support.members import hello

from tandem.cluster.peers import Peer
from tandem.cluster.report import adds_up_in_plaintext, report_ranks
from tandem.cluster.session import LinkFigures
from tandem.link import ControlLink
from tandem.protocol.cluster import Collectives, Parallelism, Part, Proposal, RankReport
from tandem.security import NodeId

ZERO, ONE, TWO = (NodeId(digit * 64) for digit in "012")


class _Link(ControlLink):
    """What is known of a control connection."""

    def __init__(self, peer: NodeId, host: str, port: int) -> None:
        self.peer, self.host, self.port = peer, host, port


def test_ranks_are_those_of_the_plan_with_the_links_that_were_measured() -> None:
    parts = [Part(ZERO, 0, 3), Part(ONE, 3, 4), Part(TWO, 4, 9)]
    plan = Proposal("s", Parallelism.PIPELINE, parts, 256, 16, "why")
    peers = {
        ONE: Peer(_Link(ONE, "10.0.0.1", 71), hello(), "one"),
        TWO: Peer(_Link(TWO, "fe80::2%3", 72), hello(), "two"),
    }
    assert report_ranks(plan, "zero", peers, {1: LinkFigures(52.0, 900.0)}) == [
        RankReport(0, ZERO, "zero", "here", "0-2", None, None),
        RankReport(1, ONE, "one", "10.0.0.1:71", "3-3", 52.0, 900.0),
        RankReport(2, TWO, "two", "[fe80::2%3]:72", "4-8", None, None),
    ]


@pytest.mark.parametrize(
    ("strategy", "collectives", "plaintext"),
    [
        (Parallelism.TENSOR, Collectives.GLOO, True),
        (Parallelism.TENSOR, Collectives.NCCL, True),
        (Parallelism.TENSOR, Collectives.SEALED, False),
        (Parallelism.PIPELINE, Collectives.GLOO, False),
    ],
)
def test_sums_cross_in_plaintext_only_where_there_are_sums(
    strategy: Parallelism, collectives: Collectives, plaintext: bool
) -> None:
    plan = Proposal("s", strategy, [Part(ZERO, 0, 9), Part(ONE, 0, 9)], 256, 16, "why")
    assert adds_up_in_plaintext(plan, collectives) is plaintext
    assert not adds_up_in_plaintext(None, collectives)
