"""B1: paired nodes find each other on the network; others are not reported."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.links import TIMEOUT_S, identities

from tandem.cluster.discovery import ClusterDiscovery

Found = asyncio.Queue[tuple[str, int]]


def test_paired_nodes_find_each_other_by_mdns(tmp_path: Path) -> None:
    zero, one, stranger = (identity.node_id for identity in identities(tmp_path, 3))

    async def scenario() -> None:
        seen: dict[str, Found] = {"zero": Found(), "one": Found()}
        loopback = ["127.0.0.1"]
        nodes = [
            (ClusterDiscovery(zero, one.__eq__, loopback, seen["zero"].put_nowait), 7001),
            (ClusterDiscovery(one, zero.__eq__, loopback, seen["one"].put_nowait), 7002),
            (ClusterDiscovery(stranger, lambda _: False, loopback, lambda _: None), 7003),
        ]
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(node.run(port)) for node, port in nodes]
            assert await seen["zero"].get() == ("127.0.0.1", 7002)
            assert await seen["one"].get() == ("127.0.0.1", 7001)
            for task in running:
                task.cancel()
        for queue in seen.values():
            while not queue.empty():
                assert queue.get_nowait()[1] != 7003

    asyncio.run(scenario())
