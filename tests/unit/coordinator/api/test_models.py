"""What `/readyz` says, to whoever asks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from starlette.requests import Request
from tests.support.registered import beat, join, make_registry
from tests.support.stores import MemoryLedger, MemoryStores

from tandem.coordinator.accounts.authentication import Authenticator
from tandem.coordinator.accounts.limits import Limiter
from tandem.coordinator.accounts.records import LedgerHealth
from tandem.coordinator.api.models import Inventory
from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.metrics import Metrics
from tandem.coordinator.requests.dispatch import Dispatcher
from tandem.errors import NoProviderAvailable


class Ledger(MemoryLedger):
    health = LedgerHealth()


def ready(ledger: Ledger, *, served: bool = True) -> dict[str, str]:
    async def main() -> bytes:
        registry = make_registry()
        provider = join(registry, ["m"], account="anybody's")
        registry.heartbeat(provider, beat(ready=served))
        config = CoordinatorConfig(host="", port=0, data_dir=Path(), join_token="")
        limiter = Limiter({}, lambda: 0.0)
        dispatcher = Dispatcher(config, registry, limiter=limiter, ledger=ledger)
        authenticator = Authenticator(MemoryStores().keys(), required=True)
        inventory = Inventory(registry, dispatcher, authenticator, Metrics(registry))
        return bytes((await inventory.readyz(Request({"type": "http"}))).body)

    found: dict[str, str] = msgspec.json.decode(asyncio.run(main()))
    return found


def test_with_somebody_to_serve_it_is_ready() -> None:
    assert ready(Ledger({})) == {"status": "ready"}
    with pytest.raises(NoProviderAvailable):
        ready(Ledger({}), served=False)


def test_a_ledger_that_cannot_be_written_is_said_and_its_reason_is_not() -> None:
    ledger = Ledger({})
    ledger.health = LedgerHealth(problem="/home/alice/usage.db is damaged")
    said = ready(ledger)
    assert said["status"] == "degraded"
    assert "alice" not in said["usage"]
