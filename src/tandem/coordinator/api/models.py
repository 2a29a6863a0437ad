"""`/v1/models`, their capacity, the metrics and the health routes: what the service can do."""

from __future__ import annotations

import time
from typing import Any

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from tandem.coordinator.accounts.authentication import Authenticator
from tandem.coordinator.accounts.records import KeyRecord, account_of, owners_for
from tandem.coordinator.api.http import json_response
from tandem.coordinator.metrics import Metrics
from tandem.coordinator.requests.dispatch import Dispatcher
from tandem.coordinator.routing.choice import Capacity
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.registry import Registry
from tandem.errors import ModelNotFound, NoProviderAvailable, ServiceStopping, TandemError
from tandem.protocol import ModelName


class _Availability(msgspec.Struct, frozen=True, kw_only=True):
    """What a small request for a model would find now.

    `routable_providers` could serve it if they had room; with `can_accept` false a request waits
    behind `queued` others. `expected_first_token_s` is null when nobody has room.
    """

    id: str
    routable_providers: int
    warm_providers: int
    can_accept: bool
    queued: int
    expected_first_token_s: float | None


class Model(_Availability, frozen=True, kw_only=True):
    """OpenAI's model object: `id`, `created`, `object` and `owned_by`; the rest is ours."""

    created: int
    architecture: str
    parameters: int
    context_length: int
    dtype: str
    quantization: str | None
    provider_count: int
    object: str = "model"
    owned_by: str = "tandem"


class ModelList(msgspec.Struct, frozen=True):
    data: list[Model]
    object: str = "list"


class ModelCapacity(_Availability, frozen=True, kw_only=True):
    """`free_providers` have room; `refusal` is the error's code for a request that cannot wait."""

    free_providers: int
    refusal: str | None


class CapacityList(msgspec.Struct, frozen=True):
    data: list[ModelCapacity]
    object: str = "list"


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """`usage` says why requests are answered and not written down, while that is so."""

    status: str
    usage: str | None = None


class Inventory:
    """The routes that only read."""

    def __init__(
        self,
        registry: Registry,
        dispatcher: Dispatcher,
        authenticator: Authenticator,
        metrics: Metrics,
    ) -> None:
        self._registry = registry
        self._dispatcher = dispatcher
        self._authenticator = authenticator
        self._metrics = metrics
        self._started_at = int(time.time())

    async def models(self, request: Request) -> Response:
        key = await self._authenticate(request)
        served = self._served(owners_for(key))
        return json_response(ModelList([self._model(*found, key) for found in served]))

    async def capacity(self, request: Request) -> Response:
        key = await self._authenticate(request)
        snapshot = sorted(self._registry.capacities(owners_for(key)).items())
        return json_response(CapacityList([self._capacity(*found, key) for found in snapshot]))

    async def model(self, request: Request) -> Response:
        key = await self._authenticate(request)
        wanted = request.path_params["model"]
        for name, capacity in self._served(owners_for(key)):
            if name == wanted:
                return json_response(self._model(name, capacity, key))
        raise ModelNotFound(
            f"the model `{wanted}` does not exist, or nobody serves it now", param="model"
        )

    async def metrics(self, request: Request) -> Response:
        """In Prometheus's text format. An operator's: it tells who serves what, and how much."""
        await self._authenticator.authenticate_operator(request.headers.get("authorization"))
        return Response(self._metrics.render(), media_type=CONTENT_TYPE_LATEST)

    async def healthz(self, _: Request) -> Response:
        """The process lives and its event loop turns."""
        return json_response(Health("ok"))

    async def readyz(self, _: Request) -> Response:
        """Requests can be answered: some model has a provider that can take one."""
        if self._dispatcher.stopping:
            raise ServiceStopping("the service is stopping")
        if not self._registry.anybody_serves():
            raise NoProviderAvailable("no provider is ready")
        if self._dispatcher.ledger_health.problem is not None:
            # Without the reason, which may name what is not everybody's to know.
            return json_response(Health("degraded", "it cannot be written: see the log"))
        return json_response(Health("ready"))

    async def _authenticate(self, request: Request) -> KeyRecord | None:
        return await self._authenticator.authenticate(request.headers.get("authorization"))

    def _served(self, owners: frozenset[str] | None = None) -> list[tuple[ModelName, Capacity]]:
        """What these accounts' machines can serve, or anybody's."""
        snapshot = sorted(self._registry.capacities(owners).items())
        return [(name, capacity) for name, capacity in snapshot if capacity.routable]

    def _availability(
        self, name: ModelName, capacity: Capacity, key: KeyRecord | None
    ) -> dict[str, Any]:
        """The fields of `_Availability`."""
        queued = self._dispatcher.waiting(name, owners_for(key))
        return {
            "id": name,
            "routable_providers": capacity.routable,
            "warm_providers": capacity.warm,
            "can_accept": capacity.free > 0 and not queued,
            "queued": queued,
            "expected_first_token_s": capacity.first_s,
        }

    def _capacity(
        self, name: ModelName, capacity: Capacity, key: KeyRecord | None
    ) -> ModelCapacity:
        return ModelCapacity(
            **self._availability(name, capacity, key),
            free_providers=capacity.free,
            refusal=self._refusal(name, key),
        )

    def _refusal(self, name: ModelName, key: KeyRecord | None) -> str | None:
        demand = Demand(name, account=account_of(key), owners=owners_for(key))
        try:
            self._registry.select_provider(demand)
        except TandemError as error:
            return error.code
        return None

    def _model(self, name: ModelName, capacity: Capacity, key: KeyRecord | None) -> Model:
        info = capacity.info
        return Model(
            **self._availability(name, capacity, key),
            created=self._started_at,
            architecture=info.architecture,
            parameters=info.parameters,
            context_length=info.context_length,
            dtype=info.dtype,
            quantization=info.quantization,
            provider_count=capacity.routable,
        )
