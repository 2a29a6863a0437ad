"""Who is connected, and who has to go when there are too many.

Strangers go first, the oldest of them, so that however many come, somebody with a key gets in and
has time to show it. Then those with a key who ask nothing. Who is being answered stays, and so do
providers, for whom a part of the descriptors is kept. All of it is bookkeeping: no sockets.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable

from tandem.coordinator.server.capacity import Capacity
from tandem.coordinator.server.peer import Peer, Standing

#: An IPv6 customer has a whole network of this length.
_NETWORK_BITS = 64


class Census:
    def __init__(
        self, capacity: Capacity, happened: Callable[[str], None] = lambda _: None
    ) -> None:
        """`happened` is told what was done to whom: `stranger_shed`, `idle_shed`."""
        self.capacity = capacity
        self._happened = happened
        self._all: dict[Peer, None] = {}
        self._strangers: dict[Peer, None] = {}
        self._of_network: dict[str, dict[Peer, None]] = {}
        self._idle: dict[Peer, None] = {}
        self._providers: dict[Peer, None] = {}
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._all)

    def counts(self) -> dict[str, int]:
        strangers, providers = len(self._strangers), len(self._providers)
        known = len(self._all) - strangers - providers
        return {"stranger": strangers, "known": known, "provider": providers}

    @property
    def crowded(self) -> bool:
        """There are more than there should be, and all of them are being answered."""
        return len(self._all) - len(self._providers) > self.capacity.clients

    @property
    def full(self) -> bool:
        return len(self._all) >= self.capacity.connections

    def arrive(self, address: str) -> Peer:
        """A new connection, for which others may have to go."""
        peer = Peer(network_of(address), self._changed)
        self._all[peer] = None
        self._strangers[peer] = None
        neighbours = self._of_network.setdefault(peer.network, {})
        neighbours[peer] = None
        if len(neighbours) > self.capacity.strangers_an_address:
            self._shed(next(iter(neighbours)), "stranger_shed")
        elif len(self._strangers) > self.capacity.strangers:
            self._shed(next(iter(self._strangers)), "stranger_shed")
        elif self.crowded:
            self.make_room(peer)
        return peer

    def make_room(self, newcomer: Peer | None = None) -> None:
        """Lets the one go whom it costs least, if there is any besides `newcomer`."""
        stranger = next(iter(self._strangers), newcomer)
        idle = next(iter(self._idle), None)
        if stranger is not newcomer and stranger is not None:
            self._shed(stranger, "stranger_shed")
        elif idle is not None:
            self._shed(idle, "idle_shed")

    def leave(self, peer: Peer) -> None:
        self._all.pop(peer, None)
        self._idle.pop(peer, None)
        self._providers.pop(peer, None)
        self._no_stranger(peer)
        if not self._all:
            self._empty.set()

    async def empty(self) -> None:
        """Waits until nobody is connected."""
        while self._all:
            self._empty.clear()
            await self._empty.wait()

    def busy(self, peer: Peer) -> None:
        """It is being answered."""
        self._idle.pop(peer, None)

    def idle(self, peer: Peer) -> None:
        """It asks nothing at the moment."""
        if peer.standing is Standing.KNOWN and peer in self._all:
            self._idle[peer] = None

    def abort_stuck(self, now: float, limit_s: float) -> None:
        """Ends those that were to close long ago, and wait for a reader."""
        for peer in [peer for peer in self._all if peer.closes_for_s(now) > limit_s]:
            self._shed(peer, "reader_cut_off")

    def abort_all(self) -> None:
        for peer in tuple(self._all):
            peer.abort()

    def _changed(self, peer: Peer) -> None:
        if peer not in self._all:
            return
        self._no_stranger(peer)
        if peer.standing is Standing.PROVIDER:
            self._idle.pop(peer, None)  # it may have asked something before
            self._providers[peer] = None

    def _no_stranger(self, peer: Peer) -> None:
        if self._strangers.pop(peer, peer) is peer:
            return
        neighbours = self._of_network[peer.network]
        del neighbours[peer]
        if not neighbours:
            del self._of_network[peer.network]

    def _shed(self, peer: Peer, event: str) -> None:
        self.leave(peer)
        peer.abort()
        self._happened(event)


def network_of(address: str) -> str:
    """Where a stranger comes from: its address, or its network where one has a network each."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, _NETWORK_BITS), strict=False))
    return str(parsed)
