"""Control connections to the other nodes: dialling, greeting, pings. No plans, no sessions.

Every node dials the addresses that it was given or that others have named, and takes what comes to
its listener if it has one. One connection a pair is kept: the one that the node with the lower id
has opened.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial

import structlog

from tandem.cluster.members import Member, check_compatible
from tandem.errors import LinkLost, PeerRefused, ProtocolError, TandemError
from tandem.link import ControlLink, LinkCredentials, LinkListener, dial_control
from tandem.protocol.cluster import (
    MAX_RANKS,
    Known,
    Leaving,
    PeerHello,
    PeerRefusal,
    Ping,
    ToNode,
)
from tandem.runtime import Address, Backoff, address_text, is_link_local, raise_if_cancelled
from tandem.security import NodeId

log = structlog.get_logger(__name__)

PING_INTERVAL_S = 1.0
#: Three pings have not come, nor anything else: the peer is gone.
SILENCE_S = 3.0
_HELLO_TIMEOUT_S = 10.0
_MAX_INBOX = 64
#: Addresses that are dialled, however many other nodes name.
_MAX_ADDRESSES = 4 * MAX_RANKS
#: Connections that one node has opened, at once: an old one, and others that will replace it.
_MAX_LINKS_A_NODE = 4


class Peer:
    """One connected node."""

    def __init__(self, link: ControlLink, hello: PeerHello, name: str) -> None:
        self.link = link
        self.hello = hello
        self.name = name
        self.inbox: asyncio.Queue[ToNode] = asyncio.Queue(_MAX_INBOX)
        #: Set once it has said something about a session.
        self.spoken = asyncio.Event()
        #: Why it has left, or refuses, if it has said so: the connection's end follows.
        self.last_word: TandemError | None = None

    @property
    def member(self) -> Member:
        return Member(self.link.peer, self.hello)

    async def expect(self, timeout_s: float) -> ToNode:
        """The next message that is about a session. Raises LinkLost or PeerRefused."""
        try:
            async with asyncio.timeout(timeout_s):
                message = await self.inbox.get()
        except TimeoutError as error:
            raise LinkLost(f"{self.name} did not answer within {timeout_s:g} s") from error
        if self.last_word is not None:
            raise self.last_word
        return message

    def deliver(self, message: ToNode) -> None:
        """What it has said about a session. Raises asyncio.QueueFull."""
        if isinstance(message, PeerRefusal):
            self.last_word = PeerRefused(f"{self.name} refuses: {message.reason}")
        elif isinstance(message, Leaving) and self.last_word is None:
            self.last_word = LinkLost(f"{self.name} leaves the session: {message.reason}")
        self.inbox.put_nowait(message)
        self.spoken.set()


class Peers:
    """All connected nodes."""

    def __init__(
        self,
        credentials: LinkCredentials,
        hello: Callable[[], PeerHello],
        listener: LinkListener | None,
        dial: list[Address],
    ) -> None:
        self._changed = asyncio.Event()
        self.refusals: dict[str, str] = {}
        self._credentials = credentials
        self._hello = hello
        self._listener = listener
        self._to_dial = asyncio.Queue[Address]()
        self._addresses: set[Address] = set()
        self._accepted: Counter[NodeId] = Counter()
        self._ended = False
        self._connected: dict[NodeId, Peer] = {}
        for address in dial:
            self.add_address(address)

    @property
    def connected(self) -> dict[NodeId, Peer]:
        """As they are now."""
        return dict(self._connected)

    async def complete(self, count: int) -> dict[NodeId, Peer]:
        """Waits until so many are connected. Raises PeerRefused when there are more."""
        while len(self._connected) < count:
            await self._next_change()
        if len(self._connected) > count:
            names = ", ".join(peer.name for peer in self._connected.values())
            raise PeerRefused(f"more nodes than --ranks {count + 1}: {names}")
        return self.connected

    async def first_lost(self, peers: dict[NodeId, Peer]) -> Peer:
        """Waits until one of these is not connected any more, or by another connection."""
        while True:
            for node_id, peer in peers.items():
                if self._connected.get(node_id) is not peer:
                    return peer
            await self._next_change()

    async def _next_change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def add_address(self, address: Address) -> None:
        """An address that an operator, a discovery or another node has named."""
        if address in self._addresses or len(self._addresses) >= _MAX_ADDRESSES:
            return
        self._addresses.add(address)
        self._to_dial.put_nowait(address)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    if self._listener is not None:
                        tasks.create_task(self._listener.run(partial(self._accept, tasks)))
                    while True:
                        address = await self._to_dial.get()
                        tasks.create_task(self._keep_dialling(address))
                finally:
                    self._ended = True
        finally:
            self.drop_all("the node stops")

    def _accept(self, tasks: asyncio.TaskGroup, link: ControlLink) -> None:
        if self._ended or self._accepted[link.peer] >= _MAX_LINKS_A_NODE:
            link.close()
            return

        def ended(_: asyncio.Task[None]) -> None:
            self._accepted[link.peer] -= 1
            link.close()  # the task may have ended before it began

        self._accepted[link.peer] += 1
        tasks.create_task(self._attend(link)).add_done_callback(ended)

    def drop_all(self, reason: str) -> None:
        """Ends every connection; those that dialled will dial again."""
        for peer in self.connected.values():
            self._forget(peer, reason)

    def drop_strangers(self) -> None:
        """Ends the connections of those that are paired no more."""
        for peer in self.connected.values():
            if not self._credentials.trusts(peer.link.peer):
                self._forget(peer, "it is not paired any more")

    async def _keep_dialling(self, address: Address) -> None:
        backoff = Backoff(base_s=0.2, cap_s=5.0)
        where = address_text(*address)
        while True:
            try:
                link = await dial_control(self._credentials, address)
                backoff.reset()
                self.refusals.pop(where, None)
                await self._attend(link)
            except (LinkLost, PeerRefused, ProtocolError) as error:
                self._note(where, error)
            raise_if_cancelled()
            await asyncio.sleep(backoff.next_delay_s())

    async def _attend(self, link: ControlLink) -> None:
        """Greets, adopts and reads one connection until it ends."""
        name = self._credentials.name_of(link.peer)
        try:
            peer = await self._greet(link, name)
            if not self._adopt(peer):
                return
            await self._converse(peer)
        except (LinkLost, PeerRefused, ProtocolError) as error:
            self._note(name, error)
        finally:
            link.close()

    async def _greet(self, link: ControlLink, name: str) -> Peer:
        own = self._hello()
        await link.send(own)
        hello = await link.receive(_HELLO_TIMEOUT_S)
        if isinstance(hello, PeerRefusal):
            raise PeerRefused(f"{name} refuses: {hello.reason}")
        if not isinstance(hello, PeerHello):
            raise ProtocolError(f"{name} began with {type(hello).__name__}, not with its hello")
        try:
            check_compatible(own, hello)
        except PeerRefused as error:
            await link.refuse(error.message)
            raise
        return Peer(link, hello, name)

    def _adopt(self, peer: Peer) -> bool:
        """Whether this connection is the one to keep for its node."""
        node_id, own_id = peer.link.peer, self._credentials.identity.node_id
        if not self._credentials.trusts(node_id):  # it was, when it shook hands
            return False
        other = self._connected.get(node_id)
        if other is not None and other.hello.incarnation == peer.hello.incarnation:
            ours_is_kept = own_id < node_id
            if peer.link.dialled != ours_is_kept:
                return False
        if other is not None:
            self._forget(other, "another connection took its place")
        self._connected[node_id] = peer
        self.refusals.pop(peer.name, None)
        log.info("peer_connected", peer=peer.name, node_id=node_id[:16])
        self._changed.set()
        return True

    async def _converse(self, peer: Peer) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._ping(peer))
                await peer.link.send(Known(self._known_to(peer)))
                await self._read(peer)
        except BaseExceptionGroup as group:
            first = group.exceptions[0]
            self._forget(peer, str(first))
            raise first from group

    def _known_to(self, peer: Peer) -> list[Address]:
        """Others' listening addresses, but for those that mean nothing on another link."""
        return [
            (other.link.host, other.hello.port)
            for other in self._connected.values()
            if other is not peer
            and other.hello.port is not None
            and not is_link_local(other.link.host)
        ]

    async def _ping(self, peer: Peer) -> None:
        while True:
            await peer.link.send(Ping())
            await asyncio.sleep(PING_INTERVAL_S)

    async def _read(self, peer: Peer) -> None:
        while True:
            message = await peer.link.receive(SILENCE_S)
            if isinstance(message, Ping):
                continue  # that it came is all that it says
            if isinstance(message, Known):
                for address in message.addresses:
                    self.add_address(address)
            elif isinstance(message, PeerHello):
                raise ProtocolError(f"{peer.name} said hello twice")
            else:
                self._deliver(peer, message)

    def _deliver(self, peer: Peer, message: ToNode) -> None:
        try:
            peer.deliver(message)
        except asyncio.QueueFull:
            raise ProtocolError(f"{peer.name} sends more than it is asked for") from None

    def _forget(self, peer: Peer, reason: str) -> None:
        peer.link.close()
        if self._connected.get(peer.link.peer) is peer:
            del self._connected[peer.link.peer]
            log.info("peer_lost", peer=peer.name, reason=reason)
            self._changed.set()

    def _note(self, who: str, error: TandemError) -> None:
        """Logs a reason once, not at each attempt."""
        if self.refusals.get(who) != error.message:
            self.refusals[who] = error.message
            log.warning("peer_not_connected", peer=who, reason=error.message)
