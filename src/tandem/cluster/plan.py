"""Who is which rank, which strategy, who runs what: pure functions of what the nodes have said.

Every node computes the election; rank 0 alone computes the plan, and the others check it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tandem.engine import CACHE_SHARE
from tandem.errors import PeerRefused
from tandem.protocol.cluster import (
    Invitation,
    ModelFacts,
    Parallelism,
    Part,
    PeerHello,
    Proposal,
)
from tandem.security import NodeId

#: What a sum over the link costs beyond half a round trip: framing, encryption, two wake-ups.
_COLLECTIVE_OVERHEAD_S = 60e-6
#: Memory that weights may take; of what is left the KV cache may have its share.
_WEIGHTS_SHARE = 0.8
#: How often a token that passes the layers also passes the head: those of a prompt do not.
_HEAD_SHARE = 0.2


class Member(msgspec.Struct, frozen=True):
    node_id: NodeId
    hello: PeerHello


def check_compatible(own: PeerHello, other: PeerHello) -> None:
    """Raises PeerRefused with the reason why the two cannot be in one cluster."""
    if own.version != other.version:
        raise PeerRefused(f"cluster protocol {other.version} there, {own.version} here")
    model, theirs = own.model, other.model
    if model.digest != theirs.digest:
        raise PeerRefused(
            f"another model: {theirs.name} ({theirs.digest[:12]}) there, "
            f"{model.name} ({model.digest[:12]}) here"
        )
    if model.dtype != theirs.dtype:
        raise PeerRefused(f"dtype {theirs.dtype} there, {model.dtype} here: set --dtype alike")
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


def make_plan(
    members: Sequence[Member],
    *,
    session_id: str,
    round_trip_s: float,
    kv_tokens: int,
    block_size: int,
) -> Proposal:
    """The plan for members in rank order; `kv_tokens` is what rank 0 would like to have.

    Raises PeerRefused when the model does not fit, or does not divide as it was asked to.
    """
    preference = members[0].hello.parallelism
    asked = next((m.hello.layers for m in members if m.hello.layers is not None), None)
    tensor = _tensor_obstacle(members)
    if preference is Parallelism.TENSOR and tensor is not None:
        raise PeerRefused(tensor)
    strategy, why = preference, f"--parallelism {preference}"
    layers = [] if preference is Parallelism.TENSOR else split_layers(members, asked)
    if preference is Parallelism.AUTO:
        strategy, why = _choose(members, layers, tensor, round_trip_s)
    parts = _parts(members, strategy, layers)
    tokens = min(kv_tokens, _kv_capacity(members, parts, strategy))
    if tokens < block_size:
        raise PeerRefused("no memory is left for the KV cache beside the weights")
    return Proposal(session_id, strategy, parts, tokens, block_size, why)


def check_invitation(invitation: Invitation, members: Sequence[Member]) -> None:
    """Raises PeerRefused when the order of ranks is not what was elected here."""
    if invitation.nodes != [member.node_id for member in members]:
        raise PeerRefused("the session names other nodes, or another order, than were elected here")


def check_plan(proposal: Proposal, members: Sequence[Member]) -> None:
    """Raises PeerRefused when a plan is not one for the members, in rank order, as elected."""
    order = [member.node_id for member in members]
    if [part.node_id for part in proposal.parts] != order:
        raise PeerRefused("the plan names other nodes, or another order, than were elected here")
    preference = members[0].hello.parallelism
    if proposal.strategy not in {Parallelism.TENSOR, Parallelism.PIPELINE}:
        raise PeerRefused(f"the plan's strategy is {proposal.strategy}")
    if preference is not Parallelism.AUTO and proposal.strategy is not preference:
        raise PeerRefused(f"the plan is {proposal.strategy}, --parallelism is {preference}")
    layers = members[0].hello.model.layers
    expected = [(part.first_layer, part.end_layer) for part in proposal.parts]
    whole = proposal.strategy is Parallelism.TENSOR and all(e == (0, layers) for e in expected)
    ends = [end for _, end in expected]
    chained = [(a, b) for a, b in zip([0, *ends], ends, strict=False)] == expected
    staged = chained and ends[-1] == layers and all(a < b for a, b in expected)
    if not whole and not (proposal.strategy is Parallelism.PIPELINE and staged):
        raise PeerRefused(f"the plan's layers {expected} are not a whole model of {layers}")


def split_layers(members: Sequence[Member], asked: Sequence[int] | None) -> list[int]:
    """How many layers each rank runs: by speed, as far as memory allows, at least one each.

    Raises PeerRefused when an operator's split does not fit the model, or the model not the
    machines.
    """
    model, size = members[0].hello.model, len(members)
    if asked is not None:
        if len(asked) != size or sum(asked) != model.layers or min(asked) < 1:
            raise PeerRefused(f"--split {list(asked)} is not {model.layers} layers on {size} ranks")
        return list(asked)
    if model.layers < size:
        raise PeerRefused(f"{model.layers} layers cannot be divided among {size} ranks")
    room = [_room(member, rank in {0, size - 1}) for rank, member in enumerate(members)]
    if min(room) < 1 or sum(room) < model.layers:
        raise PeerRefused(
            f"the model needs {model_bytes(model) / 1e9:.1f} GB; these machines have room for "
            f"{sum(max(0, layers) for layers in room)} of its {model.layers} layers"
        )
    slowest = min(member.hello.bytes_per_s for member in members)
    # In quarters of the slowest: a measurement's noise must not make a split uneven.
    speeds = [round(4 * member.hello.bytes_per_s / slowest) / 4 for member in members]
    counts = [1] * size
    while sum(counts) < model.layers:
        # The next layer goes to the rank that would be done first with it.
        chosen = min(
            (rank for rank in range(size) if counts[rank] < room[rank]),
            key=lambda rank: (
                _stage_bytes(model, counts[rank] + 1, rank, size, _HEAD_SHARE) / speeds[rank],
                rank,
            ),
        )
        counts[chosen] += 1
    return counts


def model_bytes(model: ModelFacts) -> int:
    """All weights, as one machine would hold them."""
    return model.layers * model.layer_bytes + model.embedding_bytes * (1 if model.tied else 2)


def _room(member: Member, is_edge: bool) -> int:
    """How many layers a rank has memory for; the first and the last hold a vocabulary too."""
    model = member.hello.model
    free = member.hello.memory_bytes * _WEIGHTS_SHARE - (model.embedding_bytes if is_edge else 0)
    return int(free // model.layer_bytes)


def _stage_bytes(
    model: ModelFacts, layers: int, rank: int, size: int, head_share: float = 1.0
) -> float:
    """What a stage reads for a token: the head counts, an embedding is one row."""
    head = head_share * model.embedding_bytes if rank == size - 1 else 0
    return layers * model.layer_bytes + head


def _tensor_obstacle(members: Sequence[Member]) -> str | None:
    """Why the model cannot run tensor parallel on these members; None when it can."""
    model, size = members[0].hello.model, len(members)
    if model.kv_heads % size:
        return f"{model.kv_heads} KV heads do not divide among {size} ranks: use pp"
    if model.columns < size or model.vocabulary < size:
        return f"the model is too small to divide among {size} ranks"
    share = model_bytes(model) / size
    for member in members:
        if share > member.hello.memory_bytes * _WEIGHTS_SHARE:
            return f"{member.hello.name} has no memory for {share / 1e9:.1f} GB of weights"
    return None


def _choose(
    members: Sequence[Member], layers: Sequence[int], obstacle: str | None, round_trip_s: float
) -> tuple[Parallelism, str]:
    """By the time that one token would take; a pipeline only gains when several requests run."""
    model, size = members[0].hello.model, len(members)
    slowest = min(member.hello.bytes_per_s for member in members)
    weights = model.layers * model.layer_bytes + model.embedding_bytes
    hop_s = round_trip_s / 2 + _COLLECTIVE_OVERHEAD_S
    tensor_s = weights / size / slowest + (2 * model.layers + 2) * hop_s
    stages_s = sum(
        _stage_bytes(model, count, rank, size) / member.hello.bytes_per_s
        for rank, (count, member) in enumerate(zip(layers, members, strict=True))
    )
    pipeline_s = stages_s + size * hop_s
    numbers = (
        f"round trip {round_trip_s * 1e6:.0f} us, slowest rank {slowest / 1e9:.1f} GB/s, "
        f"a token tp {tensor_s * 1e3:.2f} ms, pp {pipeline_s * 1e3:.2f} ms"
    )
    if obstacle is not None:
        return Parallelism.PIPELINE, f"auto: {obstacle}; {numbers}"
    chosen = Parallelism.TENSOR if tensor_s <= pipeline_s else Parallelism.PIPELINE
    return chosen, f"auto: {numbers}"


def _parts(members: Sequence[Member], strategy: Parallelism, layers: Sequence[int]) -> list[Part]:
    total = members[0].hello.model.layers
    if strategy is Parallelism.TENSOR:
        return [Part(member.node_id, 0, total) for member in members]
    starts = [sum(layers[:rank]) for rank in range(len(members))]
    return [
        Part(member.node_id, start, start + count)
        for member, start, count in zip(members, starts, layers, strict=True)
    ]


def _kv_capacity(members: Sequence[Member], parts: Sequence[Part], strategy: Parallelism) -> int:
    """The tokens that the rank with the least room for them can hold."""
    model, size = members[0].hello.model, len(members)
    capacities = []
    for member, part in zip(members, parts, strict=True):
        count = part.end_layer - part.first_layer
        share = count / model.layers / (size if strategy is Parallelism.TENSOR else 1)
        weights = model_bytes(model) * share
        free = (member.hello.memory_bytes - weights) * CACHE_SHARE
        capacities.append(int(free / (model.kv_bytes_per_token * share)))
    return max(0, min(capacities))
