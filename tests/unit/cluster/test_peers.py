"""Control connections: one a pair, kept while there is a sign of life, named to the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.links import TIMEOUT_S, all_paired, identities, paired
from tests.support.members import hello

from tandem.cluster import peers as module
from tandem.cluster.peers import Peer, Peers
from tandem.errors import LinkLost, PeerRefused
from tandem.link import ControlLink, LinkCredentials, LinkListener, dial_control
from tandem.protocol.cluster import MAX_RANKS, Known, PeerHello, Ping
from tandem.runtime import Address, address_text
from tandem.security import NodeId


def _hello(name: str, **changes: Any) -> PeerHello:  # noqa: ANN401 - any field
    return hello(name=name, incarnation=name, **changes)


@asynccontextmanager
async def _running(
    credentials: LinkCredentials, said: PeerHello, dial: list[Address] | None = None
) -> AsyncIterator[tuple[Peers, Address]]:
    """A node's connections, and where it listens."""
    listener = LinkListener(credentials, ("127.0.0.1", 0))
    own = msgspec.structs.replace(said, port=listener.port)
    peers = Peers(credentials, lambda: own, listener, dial or [])
    running = asyncio.ensure_future(peers.run())
    try:
        yield peers, ("127.0.0.1", listener.port)
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _greeted(credentials: LinkCredentials, address: Address) -> ControlLink:
    """A node of which nothing runs but its hello."""
    link = await dial_control(credentials, address)
    await link.send(_hello("by hand"))
    assert isinstance(await link.receive(TIMEOUT_S), PeerHello)
    return link


async def _joined(
    peers: Peers, credentials: LinkCredentials, address: Address
) -> tuple[ControlLink, dict[NodeId, Peer]]:
    """A `_greeted` node, and whom the one that listens is connected to then."""
    coming = asyncio.ensure_future(peers.complete(1))
    link = await _greeted(credentials, address)
    return link, await coming


async def _until_closed(link: ControlLink) -> None:
    while True:
        await link.receive(TIMEOUT_S)


def test_three_nodes_find_each_other_by_what_one_of_them_knows(tmp_path: Path) -> None:
    zero, one, two = all_paired(tmp_path, 3)

    async def scenario() -> None:
        async with (
            asyncio.timeout(TIMEOUT_S),
            _running(zero, _hello("zero")) as (first, address),
            _running(one, _hello("one"), [address]) as (second, _),
            _running(two, _hello("two"), [address]) as (third, _),
        ):
            for peers in (first, second, third):
                found = await peers.complete(2)
                names = {peer.hello.name for peer in found.values()}
                assert len(names) == 2

    asyncio.run(scenario())


def test_more_nodes_than_ranks_are_refused_by_name(tmp_path: Path) -> None:
    zero, one, two = all_paired(tmp_path, 3)

    async def scenario() -> None:
        async with (
            asyncio.timeout(TIMEOUT_S),
            _running(zero, _hello("zero")) as (first, address),
            _running(one, _hello("one"), [address]),
            _running(two, _hello("two"), [address]),
        ):
            await first.complete(2)
            with pytest.raises(PeerRefused, match="more nodes than --ranks 2: node-"):
                await first.complete(1)

    asyncio.run(scenario())


def test_a_node_that_only_pings_is_alive_and_one_that_is_silent_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 2.0)
    zero, one = all_paired(tmp_path, 2)

    async def scenario() -> None:
        async with (
            asyncio.timeout(TIMEOUT_S),
            _running(zero, _hello("zero")) as (peers, address),
        ):
            link, connected = await _joined(peers, one, address)
            await link.send(Ping())
            lost = await peers.first_lost(connected)
            assert lost in connected.values()
            assert not peers.connected
            assert "silent" in " ".join(peers.refusals.values())
            link.close()

    asyncio.run(scenario())


def test_a_node_says_whom_it_knows_and_pings(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)

    async def scenario() -> list[object]:
        async with (
            asyncio.timeout(TIMEOUT_S),
            _running(zero, _hello("zero")) as (_, address),
        ):
            link = await _greeted(one, address)
            heard: list[object] = [await link.receive(TIMEOUT_S), await link.receive(TIMEOUT_S)]
            link.close()
            return heard

    heard = asyncio.run(scenario())
    assert Known([]) in heard
    assert Ping() in heard


def test_a_second_hello_ends_the_connection(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)

    async def scenario() -> str:
        async with (
            asyncio.timeout(TIMEOUT_S),
            _running(zero, _hello("zero")) as (peers, address),
        ):
            link, connected = await _joined(peers, one, address)
            await link.send(_hello("again"))
            await peers.first_lost(connected)
            link.close()
            return " ".join(peers.refusals.values())

    assert "said hello twice" in asyncio.run(scenario())


def test_nodes_that_do_not_fit_know_why_on_both_sides(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)

    async def scenario() -> list[str]:
        async with (
            asyncio.timeout(TIMEOUT_S),
            _running(zero, _hello("zero")) as (first, address),
            _running(one, _hello("one", ranks=3), [address]) as (second, _),
        ):
            while not (first.refusals and second.refusals):  # noqa: ASYNC110 - a few turns
                await asyncio.sleep(0)
            assert not first.connected
            assert not second.connected
            return [" ".join(peers.refusals.values()) for peers in (first, second)]

    for reason in asyncio.run(scenario()):
        assert "--ranks" in reason


def test_a_node_that_stops_leaves_nobody_connected(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)

    async def scenario() -> None:
        async with asyncio.timeout(TIMEOUT_S):
            async with _running(zero, _hello("zero")) as (peers, address):
                link = await _greeted(one, address)
                await peers.complete(1)
            assert not peers.connected
            with pytest.raises(LinkLost):
                await _until_closed(link)
            link.close()

    asyncio.run(scenario())


def test_a_node_that_names_addresses_without_end_makes_nobody_dial_them_all(
    tmp_path: Path,
) -> None:
    zero, _ = all_paired(tmp_path, 2)
    peers = Peers(zero, lambda: _hello("zero"), None, [])
    for port in range(10_000):
        peers.add_address(("10.0.0.1", port))
        peers.add_address(("10.0.0.1", port))
    assert peers._to_dial.qsize() == 4 * MAX_RANKS


@pytest.mark.parametrize("host", ["x..y", "a" * 70, "\x00", "no-such-host.invalid"])
def test_a_node_that_names_what_is_no_address_ends_nobody(tmp_path: Path, host: str) -> None:
    zero, one = all_paired(tmp_path, 2)

    async def scenario() -> None:
        async with asyncio.timeout(TIMEOUT_S), _running(zero, _hello("zero")) as (peers, address):
            link, connected = await _joined(peers, one, address)
            await link.send(Known([(host, 7700)]))
            where = address_text(host, 7700)
            while where not in peers.refusals:
                await link.send(Ping())
                await link.receive(TIMEOUT_S)
            assert peers.connected == connected
            link.close()

    asyncio.run(scenario())


def test_a_node_that_connects_without_end_is_attended_to_a_few_times(tmp_path: Path) -> None:
    zero, one = all_paired(tmp_path, 2)

    async def scenario() -> None:
        async with (
            asyncio.timeout(TIMEOUT_S),
            _running(zero, _hello("zero")) as (_, address),
        ):
            links = [await dial_control(one, address) for _ in range(12)]
            heard = await asyncio.gather(
                *(link.receive(TIMEOUT_S) for link in links), return_exceptions=True
            )
            assert sum(isinstance(each, PeerHello) for each in heard) == 4
            assert sum(isinstance(each, LinkLost) for each in heard) == 8
            for link in links:
                link.close()

    asyncio.run(scenario())


def test_whoever_is_paired_no_more_is_lost_and_kept_out(tmp_path: Path) -> None:
    zero, one, two = identities(tmp_path, 3)
    credentials = LinkCredentials(zero, [paired(one), paired(two)])
    client = LinkCredentials(one, [paired(zero)])

    async def scenario() -> None:
        async with (
            asyncio.timeout(TIMEOUT_S),
            _running(credentials, _hello("zero")) as (peers, address),
        ):
            link, connected = await _joined(peers, client, address)
            credentials.trust([paired(two)])
            peers.drop_strangers()
            assert await peers.first_lost(connected) in connected.values()
            with pytest.raises(LinkLost):
                await _until_closed(link)
            link.close()
            again = await dial_control(client, address)  # refused once it shows its certificate
            with pytest.raises(LinkLost):
                await _until_closed(again)
            again.close()
            credentials.trust([paired(one)])
            link, _ = await _joined(peers, client, address)
            link.close()

    asyncio.run(scenario())
