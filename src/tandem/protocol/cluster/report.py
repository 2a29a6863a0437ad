"""What a node says about itself: a file that its provider writes and `tandem cluster status` reads.

Both are of one version; a report that does not decode is of another one, and does not count.
"""

from __future__ import annotations

import msgspec

from tandem.protocol.cluster.between_nodes import Collectives, Parallelism


class RankReport(msgspec.Struct, frozen=True):
    """One rank of a session, as another sees it: `layers` are `first-last`, figures its link's."""

    rank: int
    node_id: str
    name: str
    address: str
    layers: str
    round_trip_us: float | None
    mb_per_s: float | None


class ClusterReport(msgspec.Struct, frozen=True):
    """`state` is one of `tandem.cluster.State`; plan and ranks only while a session is active.

    `refusals` are reasons by the name or address of who is not connected.
    """

    state: str
    node_id: str
    name: str
    ranks_wanted: int
    collectives: Collectives
    connected: list[str]
    refusals: dict[str, str]
    rank: int | None = None
    strategy: Parallelism | None = None
    why: str | None = None
    ranks: list[RankReport] = []


class NodeReport(msgspec.Struct, frozen=True):
    """A clustered provider's process, and its part in a cluster."""

    pid: int
    model: str
    cluster: ClusterReport
