"""What computes on a machine, as the API tells it."""

from __future__ import annotations

import asyncio

import httpx2
from tests.integration.coordinator.conftest import (
    TIMEOUT_S,
    PlayedProvider,
    Running,
    provider_socket,
)


async def _until_device(http: httpx2.AsyncClient, device: str) -> None:
    """Waits for the coordinator to have read a heartbeat."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            (status,) = (await http.get("/v1/status")).json()["providers"]
            if status["device"] == device:
                return


def test_a_change_of_device_shows_with_the_next_heartbeat(coordinator: Running) -> None:
    async def scenario() -> None:
        async with (
            provider_socket(coordinator) as socket,
            httpx2.AsyncClient(
                base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
            ) as http,
        ):
            provider = PlayedProvider(socket)
            await provider.welcome()
            await _until_device(http, "cpu")  # as registered: the first heartbeat says nothing
            await provider.beat(device="cuda:0 NVIDIA H100")
            await _until_device(http, "cuda:0 NVIDIA H100")
            (listed,) = (await http.get("/v1/providers")).json()["data"]
            assert listed["device"] == "cuda:0 NVIDIA H100"
            assert listed["hardware"]["device"] == "cpu"

    asyncio.run(scenario())
