"""A provider as the coordinator knows it: what it said, and what it was given. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from tandem.protocol import Hardware, Heartbeat, ModelInfo, ModelName, ProviderId


class Role(msgspec.Struct, frozen=True):
    """A machine's part in a cluster. `rank` None: none; malformed: it claims something else."""

    rank: int | None = None
    malformed: bool = False


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
    """`load` is None until the first heartbeat; times are monotonic seconds."""

    id: ProviderId
    name: str
    software: str
    hardware: Hardware
    models: dict[ModelName, ModelInfo]
    last_heard: float
    load: Heartbeat | None = None
    draining: bool = False
    role: Role = NOT_CLUSTERED
    in_flight: int = 0
    #: A count of all choices made, at the time of this one's last.
    last_chosen: int = 0
