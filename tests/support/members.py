"""Nodes as others know them: what they have said of themselves, without machines behind it."""

from __future__ import annotations

from typing import Any

import msgspec

from tandem.cluster.members import Member
from tandem.protocol.cluster import (
    CLUSTER_VERSION,
    Collectives,
    ModelFacts,
    Parallelism,
    PeerHello,
)
from tandem.security import NodeId

LAYER_BYTES = 100_000_000
MODEL = ModelFacts(
    name="m",
    settings={"hidden_size": "64"},
    tokenizer="d" * 64,
    weights="e" * 64,
    kv_heads=8,
    layer_bytes=[LAYER_BYTES] * 16,
    read_bytes=[LAYER_BYTES] * 16,
    embedding_bytes=130_000_000,
    tied=False,
    kv_bytes_per_token=65_536,
    dtype="bfloat16/whole",
)


def hello(**changes: Any) -> PeerHello:  # noqa: ANN401 - any field
    """`model` are changes to `MODEL`; a token reads all of its layers if it does not say else."""
    said = changes.pop("model", {})
    read = {"read_bytes": said["layer_bytes"]} if said.get("layer_bytes") else {}
    model = msgspec.structs.replace(MODEL, **(read | said))
    fields: dict[str, Any] = {
        "version": CLUSTER_VERSION,
        "name": "node",
        "incarnation": "i",
        "model": model,
        "parallelism": Parallelism.AUTO,
        "collectives": Collectives.SEALED,
        "ranks": 2,
        "rank": None,
        "layers": None,
        "memory_bytes": 16_000_000_000,
        "bytes_per_s": 10e9,
        "port": 1,
    }
    return PeerHello(**(fields | changes))


def members(*hellos: PeerHello) -> list[Member]:
    """In the order of ranks."""
    return [Member(NodeId(f"node-{i}"), found) for i, found in enumerate(hellos)]
