"""What a node is told by its operator, and what it asks of the provider around it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from tandem.engine import Executor
from tandem.protocol.cluster import Collectives, Parallelism
from tandem.runtime import Address
from tandem.security import Identity, PairedNode, PairedNodes


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator decides about a node's part in a cluster."""

    identity: Identity
    paired: list[PairedNode]
    #: Where to see who is paired while the node runs; None when that does not change.
    pairings: PairedNodes | None = None
    name: str
    ranks: int
    listen: Address | None = None
    peers: list[Address] = []
    #: Addresses of the interfaces on which the others are looked for by mDNS.
    discover_on: list[str] = []
    parallelism: Parallelism = Parallelism.AUTO
    #: Anything but SEALED sends sums in plaintext: the operator has allowed that.
    collectives: Collectives = Collectives.SEALED
    rank: int | None = None
    split: list[int] | None = None


class Host(Protocol):
    """The provider around the node. Every call is awaited before the session goes on."""

    @property
    def serves_alone(self) -> bool:
        """Whether the whole model is in memory, which `release` would free."""
        ...

    async def release(self) -> None:
        """A shard is about to be loaded: finish serving alone, and free the memory."""
        ...

    async def activate(self, executor: Executor | None, blocks: int) -> None:
        """The session is active; `executor` is None above rank 0."""
        ...

    async def deactivate(self, reason: str) -> None:
        """The session has ended: nothing may use its executor when this returns."""
        ...
