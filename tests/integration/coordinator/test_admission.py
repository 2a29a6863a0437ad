"""Who waits, who is refused, and what everybody can see of it."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64decode
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from prometheus_client.parser import text_string_to_metric_families
from tests.integration.coordinator.conftest import (
    MODEL,
    TIMEOUT_S,
    Opened,
    PlayedProvider,
    Running,
    provider_socket,
    running,
    until_providers,
)
from tests.support.stores import create_key, create_token, ledger_entries

from tandem import protocol
from tandem.coordinator import KeyLimits, KeyRole
from tandem.protocol import Chunk, Delta, Finished, FinishReason, Trust, Usage

Scenario = Callable[[PlayedProvider, httpx2.AsyncClient], Awaitable[None]]
CHAT: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 8,
}


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("admission"), max_waiting=4) as found:
        yield found


def play(coordinator: Running, scenario: Scenario, sequences: int = 1) -> None:
    """The provider has room for so many sequences."""

    async def main() -> None:
        async with (
            provider_socket(coordinator) as socket,
            httpx2.AsyncClient(
                base_url=coordinator.url, headers=coordinator.headers, timeout=TIMEOUT_S
            ) as http,
        ):
            provider = PlayedProvider(socket)
            await provider.welcome()
            await provider.beat(max_sequences=sequences)
            await until_providers(http, 1)
            await scenario(provider, http)

    asyncio.run(main())


def ask(
    http: httpx2.AsyncClient, key: str | None = None, **more: object
) -> asyncio.Task[httpx2.Response]:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    post = http.post("/v1/chat/completions", json=CHAT | more, headers=headers)
    return asyncio.create_task(post)


async def answer(provider: PlayedProvider, request: Opened) -> None:
    done = Delta(0, "a", [1], finish=FinishReason.STOP)
    await provider.reply(request.request_id, Chunk([done], 3))
    await provider.reply(request.request_id, Finished(Usage(3, 1, 0)))


async def until_queued(http: httpx2.AsyncClient, count: int) -> dict[str, Any]:
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            (model,) = (await http.get("/v1/models/capacity")).json()["data"]
            if model["queued"] == count:
                found: dict[str, Any] = model
                return found


def new_key(coordinator: Running, name: str, **limits: Any) -> str:  # noqa: ANN401 - any limit
    return create_key(coordinator.data_dir, name, limits=KeyLimits(**limits))


def test_requests_wait_their_turn_and_the_capacity_tells(coordinator: Running) -> None:
    """C5, C6: nothing is refused while there is a place in the queue."""

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        (free,) = (await http.get("/v1/models/capacity")).json()["data"]
        assert (free["routable_providers"], free["warm_providers"]) == (1, 1)
        assert free["can_accept"]
        assert free["refusal"] is None
        assert free["expected_first_token_s"] > 0
        asked = [ask(http)]
        request = await provider.generate()
        asked += [ask(http) for _ in range(2)]
        busy = await until_queued(http, 2)
        assert (busy["routable_providers"], busy["free_providers"]) == (1, 0)
        assert not busy["can_accept"]
        assert busy["refusal"] == "overloaded"
        assert not (await http.get(f"/v1/models/{MODEL}")).json()["can_accept"]
        for _ in range(2):
            await answer(provider, request)
            request = await provider.generate()
        await answer(provider, request)
        assert [(await response).status_code for response in asked] == [200] * 3
        assert (await until_queued(http, 0))["can_accept"]

    play(coordinator, scenario)
    while not all(r.queue_s is not None for r in ledger_entries(coordinator.data_dir, limit=3)):
        pass  # rows are written a moment later


def test_a_full_queue_refuses_with_a_time_to_come_back(coordinator: Running) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        asked = [ask(http)]
        request = await provider.generate()
        asked += [ask(http) for _ in range(4)]
        await until_queued(http, 4)
        refused = await ask(http)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1
        # Another key still gets in: it takes the place of the greedy one's newest.
        other = ask(http, new_key(coordinator, "modest"))
        evicted, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().status_code for task in evicted] == [429]
        for _ in range(4):
            await answer(provider, request)
            request = await provider.generate()
        await answer(provider, request)
        assert (await other).status_code == 200
        statuses = sorted([(await response).status_code for response in asked])
        assert statuses == [200, 200, 200, 200, 429]

    play(coordinator, scenario)


def test_whoever_leaves_the_queue_is_not_served(coordinator: Running) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        running_one = ask(http)
        request = await provider.generate()
        leaver = ask(http)
        await until_queued(http, 1)
        leaver.cancel()
        await until_queued(http, 0)
        await answer(provider, request)
        assert (await running_one).status_code == 200
        last = ask(http, max_tokens=5)
        request = await provider.generate()
        assert request.content.sampling.max_tokens == 5
        await answer(provider, request)
        await last

    play(coordinator, scenario)


def test_a_request_that_can_never_fit_is_the_consumers_to_change(coordinator: Running) -> None:
    async def scenario(_: PlayedProvider, http: httpx2.AsyncClient) -> None:
        response = await ask(http, max_tokens=4000)
        assert response.status_code == 400
        assert response.json()["error"]["code"] == "context_length_exceeded"
        assert response.json()["error"]["param"] == "max_tokens"

    play(coordinator, scenario)


def test_limits_of_a_key(coordinator: Running) -> None:
    """Requests a minute, requests at once, and the budget, each with its own answer."""

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        rate = new_key(coordinator, "rate", requests_per_minute=1)
        first = ask(http, rate)
        await answer(provider, await provider.generate())
        assert (await first).status_code == 200
        refused = await ask(http, rate)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(refused.headers["retry-after"]) <= 60

        once = new_key(coordinator, "once", concurrent=1)
        first = ask(http, once)
        request = await provider.generate()
        assert (await ask(http, once)).status_code == 429
        await answer(provider, request)
        await first

        poor = new_key(coordinator, "poor", budget_tokens=10)
        first = ask(http, poor)
        request = await provider.generate()
        assert request.content.sampling.max_tokens == 2, "what is left beside the prompt"
        await answer(provider, request)
        assert (await first).json()["usage"]["total_tokens"] == 4
        refused = await ask(http, poor)
        assert refused.json()["error"]["code"] == "insufficient_quota"

    play(coordinator, scenario, sequences=4)


def test_trust_is_asked_of_a_key_or_of_a_request(coordinator: Running) -> None:
    """C10: prompts go to nobody who has not proved enough."""

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        strict = new_key(coordinator, "strict", min_trust=Trust.HARDWARE)
        refused = await ask(http, strict)
        assert refused.status_code == 503
        assert "proved" in refused.json()["error"]["message"]
        headers = {"x-tandem-min-trust": "hardware"}
        response = await http.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert response.status_code == 503
        headers = {"x-tandem-min-trust": "total"}
        response = await http.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert response.json()["error"]["param"] == "x-tandem-min-trust"
        asked = asyncio.create_task(
            http.post(
                "/v1/chat/completions", json=CHAT, headers={"x-tandem-min-trust": "self_signed"}
            )
        )
        await answer(provider, await provider.generate())
        assert (await asked).status_code == 200

    play(coordinator, scenario)


def test_whoever_sends_prompts_can_check_the_attestation(coordinator: Running) -> None:
    """With nothing but what the route says, and a library."""
    user = create_key(coordinator.data_dir, "user")

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        http.headers["Authorization"] = f"Bearer {user}"
        (shown,) = (await http.get("/v1/providers/attestation")).json()["data"]
        registration = b64decode(shown["registration"])
        signed = b"tandem registration" + b64decode(shown["nonce"])
        signed += hashlib.sha256(registration).digest()
        told = protocol.decode_registration(registration)
        assert told.sealing_key == provider.sealing.public
        key = x509.load_der_x509_certificate(told.certificate).public_key()
        assert isinstance(key, Ed25519PublicKey)
        key.verify(b64decode(shown["signature"]), signed)
        assert shown["trust"] == "self_signed"

    play(coordinator, scenario)


def test_a_drained_provider_gets_nothing_until_it_is_resumed(coordinator: Running) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        asked = ask(http)
        request = await provider.generate()
        drained = (await http.post("/v1/providers/played/drain")).json()
        assert drained["draining"]
        assert drained["in_flight"] == 1
        assert (await ask(http)).status_code == 503
        await answer(provider, request)
        assert (await asked).status_code == 200
        (listed,) = (await http.get("/v1/providers")).json()["data"]
        assert (listed["in_flight"], listed["draining"]) == (0, True)
        await http.post(f"/v1/providers/{listed['id']}/resume")
        asked = ask(http)
        await answer(provider, await provider.generate())
        assert (await asked).status_code == 200
        assert (await http.post("/v1/providers/nobody/drain")).status_code == 404

    play(coordinator, scenario)


def test_an_account_pairs_its_own_machines(coordinator: Running) -> None:
    """C8: offered for a cluster are those that are in none."""
    alices = create_token(coordinator.data_dir, "alice")
    key = create_key(coordinator.data_dir, "alice", account="alice", role=KeyRole.OPERATOR)

    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        async with provider_socket(coordinator) as socket:
            hers = PlayedProvider(socket, "hers")
            assert isinstance(await hers.join(alices), protocol.Welcome)
            await hers.beat()
            listed = (await http.get("/v1/providers")).json()["data"][-1]
            (peer,) = await _until_peers(http, key, 1)
            assert peer["node_id"] == listed["node_id"]
            await hers.beat(cluster_role=0, members=[listed["node_id"]])
            await _until_peers(http, key, 0)

    play(coordinator, scenario)


async def _until_peers(http: httpx2.AsyncClient, key: str, count: int) -> list[dict[str, Any]]:
    headers = {"Authorization": f"Bearer {key}"}
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            answered = await http.get("/v1/cluster/peers", headers=headers)
            peers: list[dict[str, Any]] = answered.json()["data"]
            if len(peers) == count:
                return peers


def test_a_provider_that_fails_three_challenges_is_cut_off(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """C10: possession of the key is proved again and again."""
    directory = tmp_path_factory.mktemp("challenges")
    with running(directory, challenge_interval_s=0.05, challenge_timeout_s=0.2) as coordinator:

        async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
            challenges = 0
            while challenges < 3:
                challenges += isinstance(await provider.receive(), protocol.Challenge)
            await until_providers(http, 0)

        play(coordinator, scenario)


def test_a_false_proof_lets_nobody_in(coordinator: Running) -> None:
    async def main() -> None:
        async with provider_socket(coordinator) as socket:
            provider = PlayedProvider(socket)
            provider.prover = PlayedProvider(socket).prover  # of another key
            refused = await provider.join()
            assert isinstance(refused, protocol.Refused)
            assert refused.error.code == "attestation_refused"

    asyncio.run(main())


def test_a_request_that_takes_too_long_is_ended_and_harms_nobody(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """A3: wherever it is, in the queue or at a provider, before a token or after one."""
    with running(tmp_path_factory.mktemp("slow"), request_timeout_s=2.0) as coordinator:

        async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
            asked = [ask(http)]
            request = await provider.generate()
            asked.append(ask(http))  # waits behind it
            await provider.reply(request.request_id, Chunk([Delta(0, "a", [1])], 3))
            for response in [await task for task in asked]:
                assert response.status_code == 503
                assert response.json()["error"]["code"] == "request_timed_out"
            assert await provider.receive() == protocol.Cancel(request.request_id)
            (listed,) = (await http.get("/v1/providers")).json()["data"]
            assert listed["in_flight"] == 0
            last = ask(http, max_tokens=5)
            # The one that had waited may have got the place for its last millisecond.
            while not isinstance(message := await provider.receive(), protocol.Request) or (
                (request := provider.open(message)).content.sampling.max_tokens != 5
            ):
                pass
            await answer(provider, request)
            assert (await last).status_code == 200

        play(coordinator, scenario)
    # Every row tells what was delivered, also of those that failed.
    rows = ledger_entries(coordinator.data_dir, limit=3)
    assert sorted((r.outcome, r.completion_tokens) for r in rows) == [
        ("completed", 1),
        ("request_timed_out", 0),
        ("request_timed_out", 1),
    ]


def test_metrics_count_what_happened_and_invent_no_names(coordinator: Running) -> None:
    async def scenario(provider: PlayedProvider, http: httpx2.AsyncClient) -> None:
        asked = ask(http)
        await answer(provider, await provider.generate())
        await asked
        await ask(http, model="made up by a consumer")
        await provider.beat(cluster_role="?", counters={"cluster_sessions": 3, "bad name!": 1})
        await until_providers(http, 0)
        text = (await http.get("/metrics")).text
        families = {f.name: f for f in text_string_to_metric_families(text)}
        ended = {
            (s.labels["model"], s.labels["outcome"]) for s in families["tandem_requests"].samples
        }
        assert (MODEL, "completed") in ended
        assert ("unknown", "model_not_found") in ended
        events = {s.labels["event"] for s in families["tandem_provider_events"].samples}
        assert {"joined", "malformed_role"} <= events
        reported = {
            s.labels["counter"]: s.value for s in families["tandem_provider_reported"].samples
        }
        assert reported == {"cluster_sessions": 3.0}
        phases = {s.labels.get("phase") for s in families["tandem_request_seconds"].samples}
        assert {"queue", "first_token", "total"} <= phases
        assert (await http.get("/metrics", headers={"Authorization": ""})).status_code == 401

    play(coordinator, scenario)
