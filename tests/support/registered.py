"""Registrations and heartbeats of machines that do not exist."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from tandem import protocol
from tandem.coordinator.fleet.challenges import Attested
from tandem.coordinator.fleet.link import ProviderLink
from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing.admission import Admission
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.registry import Registry
from tandem.coordinator.routing.reservation import Reservation
from tandem.security import RecipientKey, SealingKey

HARDWARE = protocol.Hardware("host", "os", "cpu", 1, 1)
SEALING = SealingKey()
RECIPIENT = RecipientKey(SEALING.public)
_NUMBERS = itertools.count()
#: A small request.
A = Demand(protocol.ModelName("a"))


def registration(
    models: Iterable[str],
    name: str = "box",
    **more: Any,  # noqa: ANN401 - any field
) -> protocol.Registration:
    infos = [
        protocol.ModelInfo(protocol.ModelName(model), "llama", 1, 2048, "float32")
        for model in models
    ]
    return protocol.Registration(name, "test", HARDWARE, infos, SEALING.public, **more)


def beat(ready: bool = True, **more: Any) -> protocol.Heartbeat:  # noqa: ANN401 - any field
    """Two sequences at once, in a cache of 2,048 tokens; `cluster_role` as it would be encoded."""
    if "cluster_role" in more:
        more["cluster_role"] = msgspec.Raw(msgspec.msgpack.encode(more["cluster_role"]))
    beat = protocol.Heartbeat(ready, 0, 0, 128, 128, max_sequences=2)
    return msgspec.structs.replace(beat, **more)


def join(
    registry: Registry,
    models: Iterable[str],
    *,
    name: str | None = None,
    account: str = "default",
    node_id: str | None = None,
    trust: protocol.Trust = protocol.Trust.SELF_SIGNED,
) -> Provider:
    return registry.add(
        registration(models, name or f"box {next(_NUMBERS)}"),
        ProviderLink(RECIPIENT, b"", 64),
        account=account,
        node_id=node_id,
        attested=Attested(b"", b"", protocol.Evidence(), trust),
    )


def make_registry(clock: Callable[[], float] = lambda: 0.0, **more: Any) -> Registry:  # noqa: ANN401
    settings: dict[str, Any] = {"max_providers": 8} | more
    return Registry(stale_after_s=4.0, clock=clock, **settings)


async def waiting(
    admission: Admission, key: str, demand: Demand = A, *, resumes: bool = False
) -> asyncio.Task[Reservation]:
    """A request that has asked for its place."""
    task = asyncio.create_task(admission.reserve(demand, key, resumes=resumes))
    await asyncio.sleep(0)
    return task
