"""A provider as the coordinator knows it: what it said, and what it was given. Plain data."""

from __future__ import annotations

from dataclasses import dataclass

from tandem.protocol import Hardware, Heartbeat, ModelInfo, ModelName, ProviderId


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
    in_flight: int = 0
    #: A count of all choices made, at the time of this one's last.
    last_chosen: int = 0
