"""Nodes that do not fit together refuse each other, and the reason is known on both sides."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.links import TIMEOUT_S, identities, paired

from tandem.cluster import ClusterConfig, ClusterNode, NodeFacts, State, measure_node
from tandem.engine import EngineOptions, Executor, ModelSetup, prepare
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.protocol.cluster import Collectives, Parallelism


class _Host:
    serves_alone = False

    async def release(self) -> None:
        raise AssertionError("no session may come about")

    async def activate(self, executor: Executor | None, blocks: int) -> None:  # noqa: ARG002
        raise AssertionError("no session may come about")

    async def deactivate(self, reason: str) -> None:
        pass


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> ModelSetup:
    directory = tmp_path_factory.mktemp("model") / "m"
    create_checkpoint(directory, family="llama", dtype="float32")
    return prepare(EngineOptions(directory=directory, device="cpu", threads=1, kv_tokens=256))


def _refusals(
    tmp_path: Path,
    setup: ModelSetup,
    changes: dict[str, Any],
    facts_there: NodeFacts | None = None,
) -> list[str]:
    """What the listening and the dialling node say of each other."""
    zero, one = identities(tmp_path, 2)
    facts = measure_node(setup, "m")
    here = ClusterConfig(
        identity=zero, paired=[paired(one)], name="zero", ranks=2, listen=("127.0.0.1", 0)
    )

    async def scenario() -> list[str]:
        first = ClusterNode(here, setup, facts, _Host())
        async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(first.run())]
            assert first.port is not None
            there = msgspec.structs.replace(
                here,
                **{
                    "identity": one,
                    "paired": [paired(zero)],
                    "name": "one",
                    "listen": None,
                    "peers": [("127.0.0.1", first.port)],
                    **changes,
                },
            )
            second = ClusterNode(there, setup, facts_there or facts, _Host())
            running.append(tasks.create_task(second.run()))
            nodes = (first, second)
            # Each connection is a few turns of the event loop.
            while not all(node.report().refusals for node in nodes):  # noqa: ASYNC110
                await asyncio.sleep(0)
            reasons = [" ".join(node.report().refusals.values()) for node in nodes]
            assert all(node.state is State.PAIRING and node.role is None for node in nodes)
            for task in running:
                task.cancel()
        return reasons

    return asyncio.run(scenario())


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"parallelism": Parallelism.PIPELINE}, "--parallelism"),
        ({"ranks": 3}, "--ranks"),
        ({"collectives": Collectives.GLOO}, "--collectives"),
    ],
)
def test_options_that_differ(
    tmp_path: Path, setup: ModelSetup, changes: dict[str, Any], word: str
) -> None:
    """B8: ranks with different preferences refuse to pair, and say so."""
    for reason in _refusals(tmp_path, setup, changes):
        assert word in reason


def test_another_model(tmp_path: Path, setup: ModelSetup) -> None:
    facts = measure_node(setup, "m")
    other = NodeFacts(msgspec.structs.replace(facts.model, weights="e" * 64), facts.bytes_per_s)
    for reason in _refusals(tmp_path, setup, {}, other):
        assert "another model" in reason
        assert "eeeeeeeeeeee" in reason
