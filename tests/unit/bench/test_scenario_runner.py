"""Which processes a scenario starts, and how."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest

from tandem.bench.scenario_runner import Models, providers_running
from tandem.bench.scenarios import SCENARIOS, Scenario
from tandem.bench.service import Service


class PlayedService:
    """Notes what is started, and starts nothing."""

    def __init__(self) -> None:
        self.started: dict[str, list[str]] = {}

    async def start_provider(self, name: str, options: Sequence[str]) -> None:
        self.started[name] = list(options)

    def pair(self, names: Sequence[str]) -> None:
        pass


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_providers_compute_with_one_core_each_whatever_else_there_is(scenario: Scenario) -> None:
    service, models = PlayedService(), Models(Path("a"), Path("b"))

    async def main() -> None:
        async with providers_running(cast("Service", service), scenario, models):
            pass

    asyncio.run(main())
    assert service.started
    for options in service.started.values():
        assert {"--device=cpu", "--threads=1"} <= set(options)
