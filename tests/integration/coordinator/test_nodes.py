"""Which machines a coordinator lets in, and how it parts from one that is removed."""

from __future__ import annotations

import asyncio
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from tests.integration.coordinator.conftest import (
    MODEL,
    TIMEOUT_S,
    PlayedProvider,
    Running,
    provider_socket,
)
from tests.support.stores import create_token
from websockets.exceptions import ConnectionClosed

from tandem import protocol
from tandem.coordinator import stores_in


def approve(data_dir: Path, node_id: str) -> None:
    with closing(stores_in(data_dir).nodes()) as nodes:
        nodes.approve(node_id)


def remove(data_dir: Path, node_id: str) -> None:
    with closing(stores_in(data_dir).nodes()) as nodes:
        nodes.remove(node_id)


def ids(data_dir: Path, name: str) -> list[str]:
    with closing(stores_in(data_dir).nodes()) as nodes:
        return [node.node_id for node in nodes.list() if node.name == name]


async def arrives(
    coordinator: Running, token: str, box: PlayedProvider | None = None, name: str = "box"
) -> tuple[PlayedProvider, protocol.ToProvider]:
    """A machine, the same again if there was one, and what it is told."""
    async with provider_socket(coordinator) as socket:
        arrived = PlayedProvider(socket, name if box is None else box.name)
        if box is not None:
            arrived.key, arrived.prover, arrived.sealing = box.key, box.prover, box.sealing
        return arrived, await arrived.join(token)


def test_a_machine_joins_with_a_token_once_and_comes_back_without(coordinator: Running) -> None:
    token = create_token(coordinator.data_dir, "alice")

    async def main() -> None:
        box, answer = await arrives(coordinator, token)
        assert isinstance(answer, protocol.Welcome)
        _, answer = await arrives(coordinator, "", box)
        assert isinstance(answer, protocol.Welcome)
        _, answer = await arrives(coordinator, token)
        assert isinstance(answer, protocol.Refused)
        assert answer.error.code == "invalid_api_key"

    asyncio.run(main())


def test_a_machine_that_nobody_has_let_in_waits_for_approval(coordinator: Running) -> None:
    async def main() -> None:
        stranger, answer = await arrives(coordinator, "", name="stranger")
        assert isinstance(answer, protocol.Refused)
        assert answer.error.code == "approval_required"
        (node_id,) = await asyncio.to_thread(ids, coordinator.data_dir, "stranger")
        assert f"tandem nodes approve {node_id}" in answer.error.message
        await asyncio.to_thread(approve, coordinator.data_dir, node_id)
        _, answer = await arrives(coordinator, "", stranger)
        assert isinstance(answer, protocol.Welcome)

    asyncio.run(main())


def test_nobody_asks_to_be_approved_in_another_machines_name(coordinator: Running) -> None:
    async def main() -> None:
        async with provider_socket(coordinator) as socket:
            liar, other = PlayedProvider(socket, "liar"), PlayedProvider(socket)
            liar.prover = other.prover
            answer = await liar.join("")
            assert isinstance(answer, protocol.Refused)
            assert answer.error.code == "attestation_refused"

    asyncio.run(main())
    assert ids(coordinator.data_dir, "liar") == []


def test_a_machine_that_is_removed_is_cut_off_while_it_is_connected(coordinator: Running) -> None:
    token = create_token(coordinator.data_dir)

    async def main() -> None:
        async with provider_socket(coordinator) as socket:
            box = PlayedProvider(socket, "gone")
            assert isinstance(await box.join(token), protocol.Welcome)
            await box.beat()
            (node_id,) = await asyncio.to_thread(ids, coordinator.data_dir, "gone")
            await asyncio.to_thread(remove, coordinator.data_dir, node_id)
            with pytest.raises(ConnectionClosed):
                async with asyncio.timeout(TIMEOUT_S):
                    await box.receive()

    asyncio.run(main())


def test_a_machine_that_is_called_as_another_is_known_is_not_drained_for_it(
    coordinator: Running,
) -> None:
    async def main() -> None:
        async with (
            provider_socket(coordinator) as first,
            provider_socket(coordinator) as second,
            httpx2.AsyncClient(
                base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
            ) as http,
        ):
            joined = await PlayedProvider(first, "real").join()
            assert isinstance(joined, protocol.Welcome)
            await PlayedProvider(second, joined.provider_id).join()
            for change in ("drain", "resume"):
                route = f"/v1/providers/{joined.provider_id}/{change}"
                assert (await http.post(route)).json()["name"] == "real"

    asyncio.run(main())


def test_what_runs_in_a_cluster_with_a_machine_that_is_removed_ends_there(
    coordinator: Running,
) -> None:
    token = create_token(coordinator.data_dir)

    async def main() -> None:
        async with (
            provider_socket(coordinator) as first,
            httpx2.AsyncClient(
                base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
            ) as http,
        ):
            rank_0 = PlayedProvider(first, "rank 0")
            assert isinstance(await rank_0.join(token), protocol.Welcome)
            other = "5e" * 32
            await rank_0.beat(cluster_role=0, members=[other])
            body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
            asked = asyncio.ensure_future(http.post("/v1/chat/completions", json=body))
            await rank_0.generate()
            await asyncio.to_thread(remove, coordinator.data_dir, other)
            assert isinstance(await rank_0.receive(), protocol.Cancel)
            assert (await http.get("/v1/models")).json()["data"] == []
            asked.cancel()

    asyncio.run(main())
