"""How long a reservation takes among thousands of providers: a few drawn, or all compared."""

from __future__ import annotations

import statistics
import time
from unittest import mock

import msgspec

from tandem import protocol
from tandem.coordinator.fleet import many
from tandem.coordinator.fleet.challenges import Attested
from tandem.coordinator.fleet.link import ProviderLink
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.registry import Registry
from tandem.security import RecipientKey, SealingKey

_MODEL = protocol.ModelName("m")


class Reservations(msgspec.Struct, frozen=True):
    """`way` is `drawn` or `all`; milliseconds."""

    way: str
    median_ms: float
    p99_ms: float


def measure_reservations(providers: int, reservations: int) -> list[Reservations]:
    """One way after the other; the registry's own is the first."""
    found = []
    for way, compared in (("drawn", many._COMPARED), ("all", providers)):  # noqa: SLF001
        with mock.patch.object(many, "_COMPARED", compared):
            taken = sorted(_taken_s(providers, reservations))
        p99 = taken[len(taken) * 99 // 100]
        found.append(Reservations(way, 1e3 * statistics.median(taken), 1e3 * p99))
    return found


def _taken_s(providers: int, reservations: int) -> list[float]:
    registry = Registry(stale_after_s=3600.0, max_providers=providers)
    _fill(registry, providers)
    taken = []
    for _ in range(reservations):
        demand = Demand(_MODEL, 1, 300, 100, 200)
        started = time.perf_counter()
        registry.reserve(demand)
        taken.append(time.perf_counter() - started)
    return taken


def _fill(registry: Registry, providers: int) -> None:
    info = protocol.ModelInfo(_MODEL, "llama", 1, 4096, "float32")
    hardware = protocol.Hardware("host", "os", "cpu", 1, 1)
    sealing = SealingKey().public
    recipient = RecipientKey(sealing)
    for number in range(providers):
        provider = registry.add(
            protocol.Registration(f"p{number}", "bench", hardware, [info], sealing),
            ProviderLink(recipient, b"", 64),
            account="default",
            node_id=None,
            attested=Attested(b"", b"", protocol.Evidence(), protocol.Trust.NONE),
        )
        registry.heartbeat(provider, protocol.Heartbeat(True, 0, 0, 1000, 1000))
