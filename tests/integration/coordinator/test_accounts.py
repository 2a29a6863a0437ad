"""What a key may see and do: an operator's and a user's, of one account and of another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import httpx2
import pytest
from tests.integration.coordinator.conftest import (
    MODEL,
    TIMEOUT_S,
    Opened,
    PlayedProvider,
    Running,
    provider_socket,
    until_providers,
)
from tests.support.stores import create_key, create_token

from tandem import protocol
from tandem.coordinator import Share, stores_in
from tandem.protocol import Chunk, Delta, Finished, FinishReason, Usage

Scenario = Callable[[PlayedProvider, httpx2.AsyncClient], Awaitable[None]]

OPERATORS = [
    ("GET", "/v1/status"),
    ("GET", "/v1/providers"),
    ("GET", "/v1/cluster/peers"),
    ("GET", "/metrics"),
    ("POST", "/v1/providers/played/drain"),
    ("POST", "/v1/providers/played/resume"),
]


def play(coordinator: Running, scenario: Scenario) -> None:
    """With a provider of the default account, and an operator's key."""

    async def main() -> None:
        async with (
            provider_socket(coordinator) as socket,
            httpx2.AsyncClient(
                base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
            ) as http,
        ):
            provider = PlayedProvider(socket)
            await provider.welcome()
            await until_providers(http, 1)
            await scenario(provider, http)
        await until_gone(coordinator)

    asyncio.run(main())


async def until_gone(coordinator: Running) -> None:
    async with httpx2.AsyncClient(base_url=coordinator.url, headers=coordinator.headers) as http:
        await until_providers(http, 0)


def bearer(data_dir: Path, name: str, **more: object) -> dict[str, str]:
    return {"Authorization": f"Bearer {create_key(data_dir, name, **more)}"}


@pytest.mark.parametrize(("method", "path"), OPERATORS)
def test_a_users_key_neither_sees_machines_nor_touches_them(
    coordinator: Running, method: str, path: str
) -> None:
    user = bearer(coordinator.data_dir, "guest")

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        refused = await http.request(method, path, headers=user)
        assert refused.status_code == 403
        error = refused.json()["error"]
        assert error["code"] == "permission_refused"
        assert "tandem keys create NAME --operator" in error["message"]
        (machine,) = (await http.get("/v1/providers")).json()["data"]
        assert not machine["draining"]
        assert (await http.request(method, path)).status_code == 200

    play(coordinator, scenario)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/capacity", f"/v1/models/{MODEL}"])
def test_a_users_key_sees_what_it_may_ask(coordinator: Running, path: str) -> None:
    user = bearer(coordinator.data_dir, "guest")

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        assert (await http.get(path, headers=user)).status_code == 200

    play(coordinator, scenario)


def test_an_operator_sees_every_accounts_machines_and_may_drain_them(coordinator: Running) -> None:
    alices = create_token(coordinator.data_dir, "alice")

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        async with provider_socket(coordinator) as socket:
            hers = PlayedProvider(socket, "hers")
            assert isinstance(await hers.join(alices), protocol.Welcome)
            listed = (await http.get("/v1/providers")).json()["data"]
            assert [(m["name"], m["account"]) for m in listed] == [
                ("played", "default"),
                ("hers", "alice"),
            ]
            assert (await http.post("/v1/providers/hers/drain")).json()["draining"]

    play(coordinator, scenario)


def test_nobody_reads_who_serves_without_a_key(coordinator: Running) -> None:
    with httpx2.Client(base_url=coordinator.url) as http:
        assert http.get("/v1/providers/attestation").status_code == 401


def test_a_key_reads_the_attestations_of_its_own_accounts_machines(coordinator: Running) -> None:
    own = bearer(coordinator.data_dir, "guest")
    strangers = bearer(coordinator.data_dir, "stranger", account="elsewhere")

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        shown = (await http.get("/v1/providers/attestation", headers=own)).json()["data"]
        assert [proof["trust"] for proof in shown] == ["self_signed"]
        shown = (await http.get("/v1/providers/attestation", headers=strangers)).json()["data"]
        assert shown == []

    play(coordinator, scenario)


async def answered(provider: PlayedProvider, asked: asyncio.Task[httpx2.Response]) -> int:
    """The status of a request that the provider answers."""
    await finish(provider, await provider.generate())
    return (await asked).status_code


async def finish(provider: PlayedProvider, request: Opened) -> None:
    done = Delta(0, "a", [1], finish=FinishReason.STOP)
    await provider.reply(request.request_id, Chunk([done]))
    await provider.reply(request.request_id, Finished(Usage(1, 1, 0)))


async def listed(http: httpx2.AsyncClient, headers: dict[str, str]) -> list[str]:
    """The models that a key sees."""
    both = []
    for path in ("/v1/models", "/v1/models/capacity"):
        models = (await http.get(path, headers=headers)).json()["data"]
        both.append([model["id"] for model in models])
    assert both[0] == both[1]
    return both[0]


def ask(http: httpx2.AsyncClient, headers: dict[str, str]) -> asyncio.Task[httpx2.Response]:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
    return asyncio.create_task(http.post("/v1/chat/completions", json=body, headers=headers))


def test_an_accounts_requests_go_to_its_own_machines_unless_another_shares(
    coordinator: Running,
) -> None:
    bob = bearer(coordinator.data_dir, "bob", account="bob")
    shares = stores_in(coordinator.data_dir).shares()

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        refused = await ask(http, bob)
        assert refused.status_code == 404
        error = refused.json()["error"]
        assert error["code"] == "model_not_found"
        assert "account `bob`" in error["message"]
        assert await listed(http, bob) == []
        await asyncio.to_thread(shares.share, Share("default", "bob"))
        assert await listed(http, bob) == [MODEL]
        proofs = (await http.get("/v1/providers/attestation", headers=bob)).json()["data"]
        assert len(proofs) == 1
        assert await answered(provider, ask(http, bob)) == 200
        await asyncio.to_thread(shares.unshare, Share("default", "bob"))
        assert await listed(http, bob) == []

    play(coordinator, scenario)
    shares.close()


def test_a_machine_of_another_account_reads_nobodys_prompts(coordinator: Running) -> None:
    """However much it says that it can take."""
    mallorys = create_token(coordinator.data_dir, "mallory")
    user = bearer(coordinator.data_dir, "victim")

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        async with provider_socket(coordinator) as socket:
            evil = PlayedProvider(socket, "evil")
            assert isinstance(await evil.join(mallorys), protocol.Welcome)
            await evil.beat(max_sequences=100_000)
            for _ in range(3):
                assert await answered(provider, ask(http, user)) == 200

    play(coordinator, scenario)


def test_accounts_that_use_one_machine_share_no_cache(coordinator: Running) -> None:
    alice, carol = (bearer(coordinator.data_dir, name, account=name) for name in ("alice", "carol"))
    with closing(stores_in(coordinator.data_dir).shares()) as shares:
        for name in ("alice", "carol"):
            shares.share(Share("default", name))

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        scopes = []
        for headers in (alice, carol, alice):
            asked = ask(http, headers)
            request = await provider.generate()
            scopes.append(request.content.cache_scope)
            await finish(provider, request)
            assert (await asked).status_code == 200
        first, other, again = scopes
        assert first == again
        assert len({first, other, b""}) == 3

    play(coordinator, scenario)
