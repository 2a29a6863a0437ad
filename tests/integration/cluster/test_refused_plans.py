"""Machines whose plan is refused stay connected, keep what they serve alone, and try again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.support.links import TIMEOUT_S, identities, paired

from tandem.cluster import ClusterConfig, ClusterNode, NodeFacts, State, measure_node
from tandem.cluster import node as module
from tandem.engine import EngineOptions, Executor, ModelSetup, prepare
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import CheckpointError
from tandem.protocol.cluster import Parallelism
from tandem.security import Identity


class _Host:
    """A provider, and what it was told."""

    serves_alone = False

    def __init__(self) -> None:
        self.told: list[str] = []
        self.active = asyncio.Event()
        self._executor: Executor | None = None

    async def release(self) -> None:
        self.told.append("release")

    async def activate(self, executor: Executor | None, blocks: int) -> None:  # noqa: ARG002
        self._executor = executor
        self.active.set()

    async def deactivate(self, reason: str) -> None:  # noqa: ARG002
        self.told.append("deactivate")
        if self._executor is not None:
            self._executor.close()


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> ModelSetup:
    directory = tmp_path_factory.mktemp("model") / "m"
    create_checkpoint(directory, family="llama", dtype="float32")
    return prepare(EngineOptions(directory=directory, device="cpu", threads=1, kv_tokens=256))


def _config(own: Identity, other: Identity, **more: object) -> ClusterConfig:
    fields = {"identity": own, "paired": [paired(other)], "name": own.key_path.parent.name}
    return ClusterConfig(**(fields | {"ranks": 2} | more))  # type: ignore[arg-type]


def _too_big(facts: NodeFacts) -> NodeFacts:
    """A model for which no two machines have the memory."""
    layers = [1 << 50 for _ in facts.model.layer_bytes]
    return NodeFacts(msgspec.structs.replace(facts.model, layer_bytes=layers), facts.bytes_per_s)


async def _until_refused(*nodes: ClusterNode) -> None:
    """Both know why, and are connected again, waiting for something to change."""
    while True:
        waiting = [
            node.state is State.PAIRING
            and node.last_end is not None
            and bool(node.report().connected)
            for node in nodes
        ]
        if all(waiting):
            return
        await asyncio.sleep(0.01)


def test_a_refused_plan_is_known_to_both_and_cuts_nobody_off(
    tmp_path: Path, setup: ModelSetup
) -> None:
    zero, one = identities(tmp_path, 2)
    facts = _too_big(measure_node(setup, "m"))
    hosts = [_Host(), _Host()]

    async def scenario() -> None:
        listening = _config(zero, one, rank=0, listen=("127.0.0.1", 0))
        first = ClusterNode(listening, setup, facts, hosts[0])
        dialling = _config(one, zero, peers=[("127.0.0.1", first.port)])
        second = ClusterNode(dialling, setup, facts, hosts[1])
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(node.run()) for node in (first, second)]
            await _until_refused(first, second)
            for node in (first, second):
                assert "has no memory" in str(node.last_end)
                assert "has no memory" in node.why_not
            for task in running:
                task.cancel()

    asyncio.run(scenario())
    assert [host.told for host in hosts] == [[], []]


def test_a_machine_that_comes_back_with_what_was_missing_is_taken_at_once(
    tmp_path: Path, setup: ModelSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero, one = identities(tmp_path, 2)
    facts = measure_node(setup, "m")
    hosts = [_Host(), _Host()]
    monkeypatch.setattr(module, "available_memory_bytes", lambda _: 1)

    async def scenario() -> None:
        listening = _config(zero, one, rank=0, listen=("127.0.0.1", 0))
        first = ClusterNode(listening, setup, facts, hosts[0])
        dialling = _config(one, zero, peers=[("127.0.0.1", first.port)])
        poor = ClusterNode(dialling, setup, facts, _Host())
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(node.run()) for node in (first, poor)]
            await _until_refused(first, poor)
            running.pop().cancel()
            monkeypatch.setattr(module, "available_memory_bytes", lambda _: 1 << 34)
            second = ClusterNode(dialling, setup, facts, hosts[1])
            running.append(tasks.create_task(second.run()))
            for host in hosts:
                await host.active.wait()
            for task in running:
                task.cancel()

    asyncio.run(scenario())


def test_what_serving_alone_holds_is_free_for_a_session(tmp_path: Path, setup: ModelSetup) -> None:
    zero, one = identities(tmp_path, 2)
    host = _Host()
    node = ClusterNode(_config(zero, one), setup, measure_node(setup, "m"), host)
    before = node._releasable_bytes
    host.serves_alone = True
    assert (before, node._releasable_bytes) == (0, node.model_bytes)


@pytest.mark.parametrize(
    ("rank", "failure", "said"),
    [
        (0, CheckpointError("layer 3 is damaged"), "layer 3 is damaged"),
        (1, CheckpointError("layer 3 is damaged"), "layer 3 is damaged"),
        (1, MemoryError(), "node-1 cannot load its part: MemoryError"),
    ],
)
def test_a_rank_that_cannot_load_its_shard_says_so_to_all(
    tmp_path: Path,
    setup: ModelSetup,
    rank: int,
    failure: Exception,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same would fail again: nobody gives up once more what it serves alone."""
    zero, one = identities(tmp_path, 2)
    facts = measure_node(setup, "m")
    hosts = [_Host(), _Host()]

    def fail(self: object, *_: object) -> None:
        if self.rank == rank:  # type: ignore[attr-defined]
            raise failure

    monkeypatch.setattr("tandem.cluster.session.Session.load_shard", fail)

    async def scenario() -> None:
        listening = _config(
            zero, one, rank=0, listen=("127.0.0.1", 0), parallelism=Parallelism.TENSOR
        )
        first = ClusterNode(listening, setup, facts, hosts[0])
        dialling = _config(
            one, zero, peers=[("127.0.0.1", first.port)], parallelism=Parallelism.TENSOR
        )
        second = ClusterNode(dialling, setup, facts, hosts[1])
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(node.run()) for node in (first, second)]
            await _until_refused(first, second)
            for node in (first, second):
                assert said in str(node.last_end)
            for task in running:
                task.cancel()

    asyncio.run(scenario())
    assert [host.told for host in hosts] == [["release", "deactivate"]] * 2
