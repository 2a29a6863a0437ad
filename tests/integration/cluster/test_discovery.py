"""B1: paired nodes find each other on the network; others are not reported."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import psutil
import pytest
from tests.support.links import TIMEOUT_S, identities

from tandem.cluster.discovery import ClusterDiscovery

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
