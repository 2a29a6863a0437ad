"""Which strategy, and who runs what: pure functions of what the nodes have said.

Rank 0 alone computes the plan; the others check it. How a strategy divides a model, and what a
token then costs, is the strategy's own (`tandem.cluster.strategies`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tandem.cluster.members import Member, asked_split
from tandem.cluster.strategies import STRATEGIES
from tandem.engine import CACHE_SHARE
from tandem.errors import PeerRefused
from tandem.protocol.cluster import Invitation, Parallelism, Part, Proposal

#: What a message over the link costs beyond half a round trip: framing, encryption, two wake-ups.
_MESSAGE_OVERHEAD_S = 60e-6


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
    if preference is Parallelism.AUTO:
        strategy, found, why = _fastest(members, round_trip_s, block_size)
    else:
        strategy, why = preference, f"--parallelism {preference}"
        found = _divide(members, strategy, block_size)
    tokens = min(kv_tokens, found.kv_capacity)
    return Proposal(session_id, strategy, found.parts, tokens, block_size, why)


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
    strategy = STRATEGIES.get(proposal.strategy)
    if strategy is None:
        raise PeerRefused(f"the plan's strategy is {proposal.strategy}")
    if preference is not Parallelism.AUTO and proposal.strategy is not preference:
        raise PeerRefused(f"the plan is {proposal.strategy}, --parallelism is {preference}")
    layers = members[0].hello.model.layers
    if not strategy.is_whole(proposal.parts, layers):
        ranges = [(part.first_layer, part.end_layer) for part in proposal.parts]
        raise PeerRefused(f"the plan's layers {ranges} are not a whole model of {layers}")
    for rank, member in enumerate(members):
        held = strategy.held(members[0].hello.model, proposal.parts, rank)
        if held.kv_bytes_per_token * proposal.kv_tokens > member.hello.memory_bytes:
            raise PeerRefused(
                f"the plan's cache of {proposal.kv_tokens} tokens has no room in the memory of "
                f"{member.hello.name}"
            )


class _Division(msgspec.Struct, frozen=True):
    """A way to divide the model that all members have room for."""

    parts: list[Part]
    kv_capacity: int


def _divide(members: Sequence[Member], strategy: Parallelism, block_size: int) -> _Division:
    """Raises PeerRefused with the reason why there is no such plan."""
    parts = STRATEGIES[strategy].divide(members)
    capacity = _kv_capacity(members, parts, strategy)
    if capacity < block_size:
        raise PeerRefused(f"{strategy}: no memory is left for the KV cache beside the weights")
    return _Division(parts, capacity)


def _fastest(
    members: Sequence[Member], round_trip_s: float, block_size: int
) -> tuple[Parallelism, _Division, str]:
    """By the time that one token would take; a pipeline only gains when several requests run."""
    asked_split(members)  # an operator's mistake is refused, not passed over
    hop_s = round_trip_s / 2 + _MESSAGE_OVERHEAD_S
    possible: dict[Parallelism, _Division] = {}
    obstacles = []
    for kind in STRATEGIES:
        try:
            possible[kind] = _divide(members, kind, block_size)
        except PeerRefused as error:
            obstacles.append(error.message)
    if not possible:
        raise PeerRefused("; ".join(obstacles))
    token_s = {
        kind: STRATEGIES[kind].token_s(members, found.parts, hop_s)
        for kind, found in possible.items()
    }
    slowest = min(member.hello.bytes_per_s for member in members)
    figures = [
        f"round trip {round_trip_s * 1e6:.0f} us, slowest rank {slowest / 1e9:.1f} GB/s, a token "
        + ", ".join(f"{kind} {seconds * 1e3:.2f} ms" for kind, seconds in token_s.items())
    ]
    chosen = min(token_s, key=lambda kind: token_s[kind])
    return chosen, possible[chosen], "auto: " + "; ".join([*obstacles, *figures])


def _kv_capacity(members: Sequence[Member], parts: Sequence[Part], strategy: Parallelism) -> int:
    """The tokens that the rank with the least room for them can hold."""
    model = members[0].hello.model
    capacities = []
    for rank, member in enumerate(members):
        held = STRATEGIES[strategy].held(model, parts, rank)
        free = (member.hello.memory_bytes - held.weights_bytes) * CACHE_SHARE
        capacities.append(int(free / held.kv_bytes_per_token))
    return max(0, min(capacities))
