"""Prints how long a reservation takes among 5,000 providers: a few drawn, or all compared."""

from __future__ import annotations

import statistics
import time
from unittest import mock

from tandem import protocol
from tandem.coordinator.fleet.link import ProviderLink
from tandem.coordinator.routing import registry as module
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.registry import Registry
from tandem.security import RecipientKey, SealingKey

PROVIDERS, RESERVATIONS = 5_000, 2_000
MODEL = protocol.ModelName("m")


def main() -> None:
    print(f"{RESERVATIONS} reservations among {PROVIDERS} providers, milliseconds")
    print(f"{'':8}{'median':>8}{'p99':>8}")
    for name, scanned in (("drawn", module._SCANNED), ("all", PROVIDERS)):  # noqa: SLF001
        with mock.patch.object(module, "_SCANNED", scanned):
            taken = sorted(_measure())
        p99 = taken[len(taken) * 99 // 100]
        print(f"{name:8}{statistics.median(taken) * 1e3:8.3f}{p99 * 1e3:8.3f}")


def _measure() -> list[float]:
    registry = Registry(stale_after_s=3600.0, max_providers=PROVIDERS)
    info = protocol.ModelInfo(MODEL, "llama", 1, 4096, "float32")
    hardware = protocol.Hardware("host", "os", "cpu", 1, 1)
    sealing = SealingKey().public
    recipient = RecipientKey(sealing)
    for number in range(PROVIDERS):
        provider = registry.add(
            protocol.Registration(f"p{number}", "bench", hardware, [info], sealing),
            ProviderLink(recipient, b"", 64),
            account="default",
            node_id=None,
            trust=protocol.Trust.NONE,
        )
        registry.heartbeat(provider, protocol.Heartbeat(True, 0, 0, 1000, 1000))
    taken = []
    for _ in range(RESERVATIONS):
        demand = Demand(MODEL, 1, 300, 100, 200)
        started = time.perf_counter()
        registry.reserve_provider(demand)
        taken.append(time.perf_counter() - started)
    return taken


if __name__ == "__main__":
    main()
