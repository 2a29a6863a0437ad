"""`/v1/providers`, `/v1/status`, `/v1/cluster/peers`, the attestation: the machines behind it."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from tandem.coordinator.accounts.authentication import Authenticator
from tandem.coordinator.accounts.records import KeyRecord, account_of, owners_for
from tandem.coordinator.api.http import json_response
from tandem.coordinator.fleet.provider import Hold, Provider
from tandem.coordinator.routing.registry import Registry
from tandem.errors import InvalidRequest, NotFound
from tandem.protocol import (
    ClusterPeer,
    ClusterPeers,
    Machine,
    Machines,
    ProviderStatus,
    ProviderStatuses,
    Trust,
)
from tandem.runtime import LoopWatch


class AttestationBody(msgspec.Struct, frozen=True):
    """Everything that it takes to check a provider's proof; bytes are base64.

    The signatures are over "tandem registration", the nonce and the SHA-256 of the registration,
    which is MessagePack and holds the certificate and the sealing key. `trust` is what this machine
    has proved of itself; `readers` are the node ids of all that read what is sent to it, itself
    included, and `least_trust` is that of the least trusted of them: what requests are held to.
    """

    provider_id: str
    trust: Trust
    least_trust: Trust
    readers: list[str]
    registration: str
    nonce: str
    signature: str
    device_id: str | None
    device_chain: list[str]
    device_signature: str | None
    refusal: str | None


class Attestations(msgspec.Struct, frozen=True):
    data: list[AttestationBody]
    object: str = "list"


class ProviderRoutes:
    def __init__(self, registry: Registry, authenticator: Authenticator, watch: LoopWatch) -> None:
        self._registry = registry
        self._authenticator = authenticator
        self._watch = watch

    async def providers(self, request: Request) -> Response:
        """Every account's, as all that an operator sees."""
        await self._operator(request)
        return json_response(Machines([_machine(p) for p in self._registry.providers]))

    async def status(self, request: Request) -> Response:
        await self._operator(request)
        providers = [_status(p) for p in self._registry.providers]
        return json_response(ProviderStatuses(providers, round(self._watch.longest_s, 3)))

    async def peers(self, request: Request) -> Response:
        """The operator's own account's machines that are in no cluster yet."""
        account = account_of(await self._operator(request))
        return json_response(ClusterPeers([_peer(p) for p in self._registry.unclustered(account)]))

    async def attestation(self, request: Request) -> Response:
        """The machines that the key's requests may go to: who sends prompts checks who reads."""
        owners = owners_for(await self._authenticate(request))
        readers = [p for p in self._registry.providers if p.account in owners]
        return json_response(Attestations([_attestation(p) for p in readers]))

    async def drain(self, request: Request) -> Response:
        """Sends a provider nothing new, until it restarts or is resumed."""
        return await self._set_drained(request, drained=True)

    async def resume(self, request: Request) -> Response:
        return await self._set_drained(request, drained=False)

    async def _set_drained(self, request: Request, *, drained: bool) -> Response:
        await self._operator(request)
        provider = self._find(request.path_params["provider"])
        change = self._registry.hold if drained else self._registry.lift
        change(provider, Hold.DRAINED)
        return json_response(_machine(provider))

    def _find(self, which: str) -> Provider:
        """By id, or by a name that only one has; a name never stands for an id."""
        providers = self._registry.providers
        found = [p for p in providers if p.id == which] or [p for p in providers if p.name == which]
        if not found:
            raise NotFound(f"no provider {which!r} is connected: GET /v1/providers lists them")
        if len(found) > 1:
            ids = ", ".join(p.id for p in found)
            raise InvalidRequest(f"several providers are called {which!r}: name one of {ids}")
        return found[0]

    async def _authenticate(self, request: Request) -> KeyRecord | None:
        return await self._authenticator.authenticate(request.headers.get("authorization"))

    async def _operator(self, request: Request) -> KeyRecord | None:
        return await self._authenticator.authenticate_operator(request.headers.get("authorization"))


def _common(provider: Provider) -> dict[str, Any]:
    """What every list tells of a provider."""
    beat = provider.heartbeat
    return {
        "id": provider.id,
        "name": provider.name,
        "models": sorted(provider.models),
        "ready": provider.is_ready,
        "draining": provider.is_draining,
        "in_flight": provider.in_flight,
        "running": beat.running if beat else 0,
        "waiting": beat.waiting if beat else 0,
        "cluster_role": provider.role.rank,
        "device": provider.device,
    }


def _status(provider: Provider) -> ProviderStatus:
    beat = provider.heartbeat
    return ProviderStatus(
        **_common(provider),
        free_blocks=beat.free_blocks if beat else 0,
        total_blocks=beat.total_blocks if beat else 0,
        plaintext_collectives=beat.plaintext_collectives if beat else False,
    )


def _machine(provider: Provider) -> Machine:
    beat = provider.heartbeat
    return Machine(
        **_common(provider),
        account=provider.account,
        software=provider.registration.software,
        node_id=provider.node_id,
        trust=provider.trust,
        hardware=provider.registration.hardware,
        set_aside=provider.breaker.is_open,
        cluster_members=beat.members if beat else [],
    )


def _peer(provider: Provider) -> ClusterPeer:
    assert provider.node_id is not None, "a peer has shown its certificate"
    registered = provider.registration
    return ClusterPeer(
        provider.node_id,
        provider.name,
        registered.certificate,
        registered.link_addresses,
        provider.trust,
    )


def _attestation(provider: Provider) -> AttestationBody:
    attested = provider.attested
    hardware = attested.evidence.hardware
    return AttestationBody(
        provider_id=provider.id,
        trust=attested.trust,
        least_trust=provider.trust,
        readers=provider.readers,
        registration=b64encode(attested.registration).decode(),
        nonce=b64encode(attested.nonce).decode(),
        signature=b64encode(attested.evidence.signature).decode(),
        device_id=None if hardware is None else hardware.device_id,
        device_chain=[] if hardware is None else [b64encode(c).decode() for c in hardware.chain],
        device_signature=None if hardware is None else b64encode(hardware.signature).decode(),
        refusal=attested.refusal,
    )
