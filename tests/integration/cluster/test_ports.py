"""What a cluster listens on: one port, at those that were told to; over IPv4 and IPv6 alike."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import psutil
import pytest
from tests.support.links import TIMEOUT_S, identities, paired

from tandem.cluster import ClusterConfig, ClusterNode, measure_node
from tandem.engine import EngineOptions, Executor, prepare
from tandem.engine.random_checkpoint import create_checkpoint


class _Idle:
    """A provider that serves nothing alone, and nobody asks."""

    def __init__(self) -> None:
        self.active = asyncio.Event()
        self._executor: Executor | None = None

    serves_alone = False

    async def release(self) -> None:
        pass

    async def activate(self, executor: Executor | None, blocks: int) -> None:  # noqa: ARG002
        self._executor = executor
        self.active.set()

    async def deactivate(self, reason: str) -> None:  # noqa: ARG002
        if self._executor is not None:
            self._executor.close()


def _listening_ports() -> set[int]:
    return {
        each.laddr.port
        for each in psutil.Process().net_connections("tcp")
        if each.status == psutil.CONN_LISTEN
    }


async def _form(first: ClusterNode, second: ClusterNode, hosts: list[_Idle]) -> set[int]:
    """The ports that are listened on once the two are a cluster."""
    before = _listening_ports()
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(node.run()) for node in (first, second)]
        for host in hosts:
            await host.active.wait()
        listening = _listening_ports()
        both = {node.report().node_id for node in (first, second)}
        assert all(set(node.members) == both for node in (first, second))
        for task in running:
            task.cancel()
    assert first.members == second.members == []
    assert {first.role, second.role} == {None}
    return listening - before


@pytest.mark.parametrize(
    ("listen", "dial"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("", "localhost"),
        pytest.param(
            "::1",
            "::1",
            marks=pytest.mark.skipif(
                not socket.has_dualstack_ipv6(), reason="a machine without IPv6"
            ),
        ),
    ],
)
def test_a_cluster_listens_on_one_port_and_whoever_only_dials_on_none(
    tmp_path: Path, listen: str, dial: str
) -> None:
    zero, one = identities(tmp_path, 2)
    create_checkpoint(tmp_path / "m", family="llama", dtype="float32")
    options = EngineOptions(directory=tmp_path / "m", device="cpu", threads=1, kv_tokens=256)
    setup = prepare(options)
    facts = measure_node(setup, "m")
    hosts = [_Idle(), _Idle()]

    async def scenario() -> None:
        before = _listening_ports()
        first = ClusterNode(
            ClusterConfig(
                identity=zero, paired=[paired(one)], name="zero", ranks=2, listen=(listen, 0)
            ),
            setup,
            facts,
            hosts[0],
        )
        port = first.port
        assert port is not None
        assert _listening_ports() - before == {port}
        second = ClusterNode(
            ClusterConfig(
                identity=one, paired=[paired(zero)], name="one", ranks=2, peers=[(dial, port)]
            ),
            setup,
            facts,
            hosts[1],
        )
        assert second.port is None
        assert await _form(first, second, hosts) == set()
        assert second.addresses == []

    asyncio.run(scenario())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_a_node_that_listens_on_all_addresses_names_those_of_its_machine(
    tmp_path: Path, host: str
) -> None:
    zero, one = identities(tmp_path, 2)
    create_checkpoint(tmp_path / "m", family="llama", dtype="float32")
    setup = prepare(EngineOptions(directory=tmp_path / "m", device="cpu", threads=1))
    config = ClusterConfig(
        identity=zero, paired=[paired(one)], name="zero", ranks=2, listen=(host, 0)
    )

    async def scenario() -> tuple[list[str], int | None]:
        node = ClusterNode(config, setup, measure_node(setup, "m"), _Idle())
        running = asyncio.ensure_future(node.run())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
        return node.addresses, node.port

    addresses, port = asyncio.run(scenario())
    own = {
        address.address.partition("%")[0]
        for found in psutil.net_if_addrs().values()
        for address in found
    }
    assert addresses
    for text in addresses:
        named, _, shown = text.rpartition(":")
        assert int(shown) == port
        assert named.strip("[]").partition("%")[0] in own
    assert not [text for text in addresses if text.startswith(("0.0.0.0", "[::]"))]
