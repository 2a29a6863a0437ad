"""A provider as the coordinator knows it: what it said, and what it was given. Plain data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

import msgspec

from tandem.coordinator.fleet.breaker import Breaker
from tandem.coordinator.fleet.challenges import Attested
from tandem.coordinator.fleet.link import ProviderLink
from tandem.coordinator.fleet.readers import ConnectedNodes, trust_of_readers
from tandem.coordinator.fleet.speed import Speed
from tandem.protocol import Heartbeat, ModelInfo, ModelName, ProviderId, Registration, Trust


class Role(msgspec.Struct, frozen=True):
    """A machine's part in a cluster. `rank` None: none; malformed: it claims something else."""

    rank: int | None = None
    malformed: bool = False

    @property
    def answers(self) -> bool:
        """Whether requests are for this machine: it is alone, or rank 0."""
        return not self.malformed and not self.rank


NOT_CLUSTERED = Role()


#: None, or a rank: anything else is not even built.
_decode_rank = msgspec.msgpack.Decoder(Annotated[int, msgspec.Meta(ge=0, lt=2**16)] | None).decode


def read_role(claimed: bytes | msgspec.Raw) -> Role:
    """What a heartbeat's `cluster_role`, still encoded, means; all but a rank fails closed."""
    try:
        return Role(rank=_decode_rank(claimed))
    except msgspec.MsgspecError:
        return Role(malformed=True)


class Hold(StrEnum):
    """Why a connected provider gets nothing new, whatever is asked; it may end what it has."""

    NOT_READY = "it has not said that it is ready"
    LEAVING = "it has said that it stops"
    DRAINED = "an operator drains it, until it restarts or is resumed"
    SHUT_OUT = "a machine of its cluster was removed"


@dataclass(eq=False)
class Provider:
    """Written by the registry and by reservations alone. Times are monotonic seconds.

    `node_id` is the hash of its certificate's key, None for a machine that shows none.
    """

    id: ProviderId
    registration: Registration
    link: ProviderLink
    last_heard: float
    #: Silence for longer than this is the end of it.
    stale_after_s: float
    account: str
    attested: Attested
    node_id: str | None = None
    #: The last one; None before the first.
    heartbeat: Heartbeat | None = None
    holds: set[Hold] = field(default_factory=lambda: {Hold.NOT_READY})
    role: Role = NOT_CLUSTERED
    in_flight: int = 0
    sequences: int = 0
    tokens: int = 0
    #: Prompt tokens that were sent there and have not shown a first token.
    prefilling: int = 0
    #: Requests that were sent there and have not shown a first token.
    beginning: int = 0
    #: Until then one of them is being begun, beside which no other may be.
    alone_until: float = 0.0
    #: Since when it has been ready; None while it is not.
    ready_since: float | None = None
    #: A count of all choices made, at the time of this one's last.
    last_chosen: int = 0
    #: When the engine's step counter was last seen to move, or was idle.
    moved_at: float = 0.0
    breaker: Breaker = field(default_factory=Breaker)
    speeds: dict[ModelName, Speed] = field(default_factory=dict)
    #: What the others that are connected have proved.
    nodes: ConnectedNodes = field(default_factory=ConnectedNodes)
    _held: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.models: dict[ModelName, ModelInfo] = {m.name: m for m in self.registration.models}

    @property
    def machine(self) -> str:
        """The same when it connects again: its node id, or else what it is called."""
        return self.node_id or f"{self.account}/{self.name}"

    @property
    def name(self) -> str:
        return self.registration.name

    @property
    def device(self) -> str:
        """What computes there: as it said last, or else when it joined."""
        said = "" if self.heartbeat is None else self.heartbeat.device
        return said or self.registration.hardware.device

    @property
    def trust(self) -> Trust:
        """Of the least trusted machine that reads what is sent here."""
        own, beat = self.attested.trust, self.heartbeat
        if beat is None:
            return own
        others = [member for member in beat.members if member != self.node_id]
        is_rank = self.role.rank is not None
        return trust_of_readers(own, others, beat, self.nodes, is_rank=is_rank)

    @property
    def readers(self) -> list[str]:
        """The node ids of the machines that read what is sent here, as far as they have one."""
        members = [] if self.heartbeat is None else self.heartbeat.members
        own = [] if self.node_id is None or self.node_id in members else [self.node_id]
        return [*own, *members]

    @property
    def is_draining(self) -> bool:
        return Hold.LEAVING in self.holds or Hold.DRAINED in self.holds

    @property
    def is_warm(self) -> bool:
        """Whether it has a model loaded, by its own word."""
        return Hold.NOT_READY not in self.holds

    @property
    def is_ready(self) -> bool:
        return not self.holds

    @property
    def says_it_works(self) -> bool:
        """Whether its engine has anything to do, by its own word."""
        return self.heartbeat is not None and self.heartbeat.running + self.heartbeat.waiting > 0

    @property
    def cache_tokens(self) -> int:
        """How many tokens its KV cache holds."""
        beat = self.heartbeat
        return 0 if beat is None else beat.total_blocks * beat.block_tokens

    def held(self, key: str) -> int:
        """How many of its sequences are a key's."""
        return self._held[key]

    def hold_for(self, key: str, sequences: int) -> None:
        """So many more are a key's, or fewer."""
        self._held[key] += sequences
        if not self._held[key]:
            del self._held[key]

    def speed(self, model: ModelName) -> Speed:
        return self.speeds.setdefault(model, Speed())
