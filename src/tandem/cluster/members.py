"""Who may be in one cluster, and who is which rank: pure functions of what the nodes have said.

Every node computes both, and comes to the same result.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tandem.errors import PeerRefused
from tandem.protocol.cluster import ModelFacts, PeerHello
from tandem.security import NodeId


class Member(msgspec.Struct, frozen=True):
    node_id: NodeId
    hello: PeerHello


def check_compatible(own: PeerHello, other: PeerHello) -> None:
    """Raises PeerRefused with the reason why the two cannot be in one cluster."""
    if own.version != other.version:
        raise PeerRefused(f"cluster protocol {other.version} there, {own.version} here")
    model, theirs = own.model, other.model
    difference = _difference(model, theirs)
    if difference is not None:
        raise PeerRefused(f"another model: {theirs.name} there, {model.name} here: {difference}")
    if model.dtype != theirs.dtype:
        raise PeerRefused(
            f"dtype {theirs.dtype} there, {model.dtype} here: "
            "set --dtype, --quantize and --kv-cache alike"
        )
    if own.parallelism != other.parallelism:
        raise PeerRefused(
            f"--parallelism {other.parallelism} there, {own.parallelism} here: set it alike"
        )
    if own.collectives != other.collectives:
        raise PeerRefused(
            f"--collectives {other.collectives} there, {own.collectives} here: set it alike"
        )
    if own.ranks != other.ranks:
        raise PeerRefused(f"--ranks {other.ranks} there, {own.ranks} here: set it alike")
    if own.rank is not None and own.rank == other.rank:
        raise PeerRefused(f"both want --rank {own.rank}")
    if own.layers is not None and other.layers is not None and own.layers != other.layers:
        raise PeerRefused(f"--split {other.layers} there, {own.layers} here: set it alike")


def _difference(own: ModelFacts, other: ModelFacts) -> str | None:
    """In what another node's model is not this one's."""
    for name in sorted(own.settings.keys() | other.settings.keys()):
        here, there = own.settings.get(name, "nothing"), other.settings.get(name, "nothing")
        if here != there:
            return f"its configuration has {name} {there} there, {here} here"
    for file in ("tokenizer", "weights"):
        here, there = getattr(own, file), getattr(other, file)
        if here != there:
            return f"other {file} ({there[:12]} there, {here[:12]} here)"
    return None


def elect(members: Sequence[Member]) -> list[Member]:
    """The members in rank order: where operators asked to be, the others by node id.

    Deterministic, so every node comes to the same order. Raises PeerRefused when the wishes do
    not fit together.
    """
    size = len(members)
    by_rank: dict[int, Member] = {}
    for member in members:
        rank = member.hello.rank
        if rank is None:
            continue
        if not 0 <= rank < size or rank in by_rank:
            raise PeerRefused(f"--rank {rank} does not fit a cluster of {size}")
        by_rank[rank] = member
    free = iter(sorted(set(range(size)) - set(by_rank)))
    for member in sorted(members, key=lambda member: member.node_id):
        if member.hello.rank is None:
            by_rank[next(free)] = member
    return [by_rank[rank] for rank in range(size)]


def asked_split(members: Sequence[Member]) -> list[int] | None:
    """The layers of each rank, where an operator says; None where none does.

    Raises PeerRefused when they are not the model's on as many ranks.
    """
    layers, size = members[0].hello.model.layers, len(members)
    asked = next((m.hello.layers for m in members if m.hello.layers is not None), None)
    if asked is not None and (len(asked) != size or sum(asked) != layers or min(asked) < 1):
        raise PeerRefused(f"--split {asked} is not {layers} layers on {size} ranks")
    return asked
