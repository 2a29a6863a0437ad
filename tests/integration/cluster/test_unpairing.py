"""A machine that is trusted no more loses its session at once, and gets no other."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.support.links import TIMEOUT_S, identities, paired

from tandem.cluster import ClusterConfig, ClusterNode, measure_node, pairings
from tandem.engine import EngineOptions, Executor, prepare
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.security import PairedNodes


class _Host:
    serves_alone = False

    def __init__(self) -> None:
        self.active = asyncio.Event()
        self.ended = asyncio.Event()
        self._executor: Executor | None = None

    async def release(self) -> None:
        pass

    async def activate(self, executor: Executor | None, blocks: int) -> None:  # noqa: ARG002
        self._executor = executor
        self.active.set()

    async def deactivate(self, reason: str) -> None:  # noqa: ARG002
        if self._executor is not None:
            self._executor.close()
        self.active.clear()
        self.ended.set()


def test_removing_a_machine_ends_the_session_that_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairings, "_INTERVAL_S", 0.01)
    zero, one = identities(tmp_path, 2)
    create_checkpoint(tmp_path / "m", family="llama", dtype="float32")
    options = EngineOptions(directory=tmp_path / "m", device="cpu", threads=1, kv_tokens=256)
    setup = prepare(options)
    facts = measure_node(setup, "m")
    store = PairedNodes(tmp_path / "store")
    store.add(paired(one))
    hosts = [_Host(), _Host()]

    async def scenario() -> None:
        listening = ClusterConfig(
            identity=zero, paired=store.all(), pairings=store, name="zero", ranks=2, rank=0,
            listen=("127.0.0.1", 0),
        )  # fmt: skip
        first = ClusterNode(listening, setup, facts, hosts[0])
        assert first.port is not None
        dialling = ClusterConfig(
            identity=one, paired=[paired(zero)], name="one", ranks=2,
            peers=[("127.0.0.1", first.port)],
        )  # fmt: skip
        second = ClusterNode(dialling, setup, facts, hosts[1])
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(node.run()) for node in (first, second)]
            for host in hosts:
                await host.active.wait()
            store.remove(one.node_id)
            for host in hosts:
                await host.ended.wait()
            while not first.counters["cluster_connections_refused"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert first.report().connected == []
            store.add(paired(one))
            for host in hosts:
                await host.active.wait()
            for task in running:
                task.cancel()

    asyncio.run(scenario())
