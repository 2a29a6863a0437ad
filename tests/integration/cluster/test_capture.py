"""What an observer of the link sees (B4): TLS records, and nothing of what they carry."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from tests.support.links import TIMEOUT_S, Tap, identities, paired
from tests.support.ranks import running

from tandem.cluster import ClusterConfig, ClusterNode, State, measure_node
from tandem.engine import (
    EngineOptions,
    Executor,
    GenerationRequest,
    SamplingParams,
    prepare,
)
from tandem.engine.core.step import SequenceStep, StepPlan
from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.link.frames import encode_frame
from tandem.protocol.cluster import Parallelism, PlanHeader

SHAPE = Size(2, 64, 176, 8, 4, 16, 389, 1024)
PROMPT = [101, 202, 303, 104, 205, 306, 107, 208]
TEXT = "the prompt that nobody may read"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("model") / "m"
    create_checkpoint(directory, family="llama", size=SHAPE, dtype="float32")
    return directory


def encodings(tokens: list[int]) -> Iterator[bytes]:
    """Token ids in every plain form that a program might send them in."""
    yield msgspec.msgpack.encode(tokens)[1:]
    yield msgspec.json.encode(tokens)[1:-1]
    for kind in "HhIiQqfd":
        for order in "<>":
            yield struct.pack(f"{order}{len(tokens)}{kind}", *tokens)


def assert_sealed(seen: bytes, secrets: list[bytes]) -> None:
    """TLS records from the first byte to the last, and none of the secrets among them."""
    position = 0
    while position < len(seen):
        kind, version = seen[position], seen[position + 1 : position + 3]
        length = int.from_bytes(seen[position + 3 : position + 5], "big")
        assert kind in (20, 21, 22, 23), "not a TLS record"
        assert version in (b"\x03\x01", b"\x03\x03"), "not a TLS record"
        assert length <= 16_384 + 256, "not a TLS record"
        position += 5 + length
    for secret in secrets:
        assert secret not in seen, "a secret is on the wire"


def _secrets(checkpoint: Path) -> list[bytes]:
    weights = prepare(EngineOptions(directory=checkpoint, dtype="float32", device="cpu", threads=1))
    del weights
    from safetensors.torch import load_file

    embedding = load_file(checkpoint / "model.safetensors")["model.embed_tokens.weight"]
    activations = [embedding[token].contiguous() for token in PROMPT]
    found = [bytes(row.view(torch.uint8).numpy()) for row in activations]
    return [*found, *encodings(PROMPT), *encodings(PROMPT[:4]), TEXT.encode()]


@pytest.mark.parametrize("strategy", ["tp", "pp"])
def test_the_data_link_carries_nothing_but_tls_records(
    tmp_path: Path, checkpoint: Path, strategy: str
) -> None:
    taps: list[Tap] = []

    def tapped(port: int) -> int:
        taps.append(Tap(("127.0.0.1", port)))
        return taps[-1].port

    request = GenerationRequest(
        request_id=TEXT,
        prompts=[PROMPT],
        samples=1,
        params=SamplingParams(max_tokens=8, temperature=0.0),
        stop=[],
        ignore_eos=True,
        deadline=time.monotonic() + TIMEOUT_S,
    )
    with running(checkpoint, strategy, 2, tmp_path / "nodes", via=tapped) as group:
        tokens = group.generate([request])[TEXT][0]
    secrets = [*_secrets(checkpoint), *encodings(tokens)]
    for tap in taps:
        tap.close()
        for seen in tap.seen.values():
            assert len(seen) > 1000
            assert_sealed(bytes(seen), secrets)


def test_the_same_frames_without_sealing_would_be_noticed(checkpoint: Path) -> None:
    plan = StepPlan(1, [SequenceStep(1, PROMPT, 0, [0], None)])
    plain = encode_frame(PlanHeader(1)) + msgspec.msgpack.encode(plan)
    with pytest.raises(AssertionError, match="not a TLS record"):
        assert_sealed(plain, [])
    record = b"\x17\x03\x03" + len(plain).to_bytes(2, "big") + plain
    with pytest.raises(AssertionError, match="a secret"):
        assert_sealed(record, _secrets(checkpoint))


class _Idle:
    """A provider that only wants to see the session come about."""

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


def test_the_control_link_carries_nothing_but_tls_records(tmp_path: Path, checkpoint: Path) -> None:
    zero, one = identities(tmp_path, 2)
    setup = prepare(
        EngineOptions(directory=checkpoint, dtype="float32", device="cpu", threads=1, kv_tokens=256)
    )
    facts = measure_node(setup, TEXT)

    async def scenario() -> Tap:
        hosts = [_Idle(), _Idle()]
        listening = ClusterConfig(
            identity=zero, paired=[paired(one)], name="zero", ranks=2, rank=0,
            listen=("127.0.0.1", 0), parallelism=Parallelism.PIPELINE,
        )  # fmt: skip
        first = ClusterNode(listening, setup, facts, hosts[0])
        async with asyncio.TaskGroup() as tasks:
            running_nodes = [tasks.create_task(first.run())]
            assert first.port is not None
            tap = Tap(("127.0.0.1", first.port))
            dialling = ClusterConfig(
                identity=one, paired=[paired(zero)], name="one", ranks=2,
                peers=[("127.0.0.1", tap.port)], parallelism=Parallelism.PIPELINE,
            )  # fmt: skip
            second = ClusterNode(dialling, setup, facts, hosts[1])
            running_nodes.append(tasks.create_task(second.run()))
            async with asyncio.timeout(TIMEOUT_S):
                for host in hosts:
                    await host.active.wait()
            assert (first.state, second.state) == (State.ACTIVE, State.ACTIVE)
            assert (first.role, second.role) == (0, 1)
            for task in running_nodes:
                task.cancel()
        return tap

    tap = asyncio.run(scenario())
    tap.close()
    for seen in tap.seen.values():
        assert len(seen) > 1000
        assert_sealed(bytes(seen), [TEXT.encode(), facts.model.weights.encode(), b"PeerHello"])
