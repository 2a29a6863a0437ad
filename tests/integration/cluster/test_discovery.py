"""B1: paired nodes find each other on the network; others are not reported."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import psutil
import pytest
from tests.support.links import TIMEOUT_S, identities

from tandem.cluster import discovery as module
from tandem.cluster.discovery import ClusterDiscovery
from tandem.runtime import Backoff
from tandem.security import NodeId

Found = asyncio.Queue[tuple[str, int]]


def _own_ipv6() -> list[str]:
    """An address on an interface that can be used for mDNS; loopback cannot."""
    return [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family is socket.AF_INET6 and not address.address.startswith(("::1", "fe80:"))
    ][:1]


@pytest.mark.parametrize("own", ["127.0.0.1", *_own_ipv6()])
def test_paired_nodes_find_each_other_by_mdns(tmp_path: Path, own: str) -> None:
    zero, one, stranger = (identity.node_id for identity in identities(tmp_path, 3))

    async def scenario() -> None:
        seen: dict[str, Found] = {"zero": Found(), "one": Found()}
        interfaces = [own]
        nodes = [
            (ClusterDiscovery(zero, one.__eq__, interfaces, seen["zero"].put_nowait), 7001),
            (ClusterDiscovery(one, zero.__eq__, interfaces, seen["one"].put_nowait), 7002),
            (ClusterDiscovery(stranger, lambda _: False, interfaces, lambda _: None), 7003),
        ]
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(node.run(port)) for node, port in nodes]
            assert await seen["zero"].get() == (own, 7002)
            assert await seen["one"].get() == (own, 7001)
            for task in running:
                task.cancel()
        for queue in seen.values():
            while not queue.empty():
                assert queue.get_nowait()[1] != 7003

    asyncio.run(scenario())


def test_a_stranger_with_a_nodes_name_keeps_it_from_nothing(tmp_path: Path) -> None:
    zero, one = (identity.node_id for identity in identities(tmp_path, 2))

    async def scenario() -> None:
        seen: dict[str, Found] = {"zero": Found(), "one": Found()}
        own = ["127.0.0.1"]
        stranger = ClusterDiscovery(zero, lambda _: False, own, lambda _: None)
        partner = ClusterDiscovery(one, zero.__eq__, own, seen["one"].put_nowait)
        node = ClusterDiscovery(zero, one.__eq__, own, seen["zero"].put_nowait)
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(stranger.run(7003)), tasks.create_task(partner.run(7002))]
            assert await seen["one"].get() == ("127.0.0.1", 7003)
            running.append(tasks.create_task(node.run(7001)))
            assert await seen["zero"].get() == ("127.0.0.1", 7002)
            for task in running:
                task.cancel()

    asyncio.run(scenario())


def test_without_a_network_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: asyncio.Queue[None] = asyncio.Queue()

    class NoNetwork:
        def __init__(self, **_: object) -> None:
            tries.put_nowait(None)
            raise OSError("no such device")

    monkeypatch.setattr(module, "AsyncZeroconf", NoNetwork)
    monkeypatch.setattr(Backoff, "next_delay_s", lambda _: 0.0)

    async def scenario() -> None:
        node = ClusterDiscovery(NodeId("a"), lambda _: False, ["127.0.0.1"], lambda _: None)
        running = asyncio.ensure_future(node.run(7001))
        async with asyncio.timeout(TIMEOUT_S):
            for _ in range(3):
                await tries.get()
        running.cancel()
        await asyncio.wait([running])
        assert running.cancelled()

    asyncio.run(scenario())
