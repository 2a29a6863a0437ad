"""Who reads what is sent to a provider, and how far the least trusted of them is trusted.

A machine alone reads it alone. What rank 0 of a cluster gets, all ranks compute with; where they
add up in plaintext, whoever listens on their link reads along.
"""

from __future__ import annotations

from collections.abc import Collection

from tandem.protocol import Heartbeat, ProviderId, Trust


class ConnectedNodes:
    """What the machines that are connected have proved, by node id."""

    def __init__(self) -> None:
        self._proved: dict[str, dict[ProviderId, Trust]] = {}

    def prove(self, node_id: str | None, connection: ProviderId, trust: Trust) -> None:
        if node_id is not None:
            self._proved.setdefault(node_id, {})[connection] = trust

    def forget(self, node_id: str | None, connection: ProviderId) -> None:
        proved = self._proved.get(node_id or "", {})
        proved.pop(connection, None)
        if node_id is not None and not proved:
            self._proved.pop(node_id, None)

    def trust(self, node_id: str) -> Trust:
        """The least that this machine has proved on any connection; none if it is not here."""
        return least(self._proved.get(node_id, {}).values() or [Trust.NONE])


def least(trusts: Collection[Trust]) -> Trust:
    return min(trusts, key=list(Trust).index)


def trust_of_readers(
    own: Trust, others: Collection[str], beat: Heartbeat, nodes: ConnectedNodes, *, is_rank: bool
) -> Trust:
    """Of all who read what is sent to a machine which has proved `own` of itself.

    `others` are the node ids of the rest of its cluster; a rank without any hides who they are.
    """
    if beat.plaintext_collectives or (is_rank and not others):
        return Trust.NONE
    return least([own, *map(nodes.trust, others)])
