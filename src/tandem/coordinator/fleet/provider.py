"""A provider as the coordinator knows it: what it said, and what it was given. Plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from tandem.coordinator.fleet.breaker import Breaker
from tandem.coordinator.fleet.challenges import Attested
from tandem.coordinator.fleet.link import ProviderLink
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


def read_role(claimed: object) -> Role:
    """What a heartbeat's `cluster_role` means; anything but a rank fails closed."""
    if claimed is None:
        return NOT_CLUSTERED
    if isinstance(claimed, int) and not isinstance(claimed, bool) and claimed >= 0:
        return Role(rank=claimed)
    return Role(malformed=True)


@dataclass(eq=False)
class Provider:
    """`load` is None until the first heartbeat; times are monotonic seconds.

    `node_id` is the hash of its certificate's key, None for a machine that shows none.
    """

    id: ProviderId
    registration: Registration
    link: ProviderLink
    last_heard: float
    #: Silence for longer than this is the end of it.
    stale_after_s: float
    account: str
    node_id: str | None = None
    trust: Trust = Trust.NONE
    attested: Attested | None = None
    load: Heartbeat | None = None
    draining: bool = False
    #: Draining by an operator's word, which a restart of the provider ends.
    drained: bool = False
    role: Role = NOT_CLUSTERED
    in_flight: int = 0
    sequences: int = 0
    tokens: int = 0
    #: Prompt tokens that were sent there and have not shown a first token.
    prefilling: int = 0
    #: A count of all choices made, at the time of this one's last.
    last_chosen: int = 0
    #: When the engine's step counter was last seen to move, or was idle.
    moved_at: float = 0.0
    breaker: Breaker = field(default_factory=Breaker)
    speeds: dict[ModelName, Speed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.models: dict[ModelName, ModelInfo] = {m.name: m for m in self.registration.models}

    @property
    def name(self) -> str:
        return self.registration.name

    @property
    def device(self) -> str:
        """What computes there: as it said last, or else when it joined."""
        said = "" if self.load is None else self.load.device
        return said or self.registration.hardware.device

    @property
    def is_draining(self) -> bool:
        return self.draining or self.drained

    @property
    def is_ready(self) -> bool:
        return self.load is not None and self.load.ready and not self.is_draining

    @property
    def cache_tokens(self) -> int:
        """How many tokens its KV cache holds."""
        return 0 if self.load is None else self.load.total_blocks * self.load.block_tokens

    def speed(self, model: ModelName) -> Speed:
        return self.speeds.setdefault(model, Speed())
