"""The routes, and what every answer has in common."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tandem.coordinator.accounts.authentication import Authenticator
from tandem.coordinator.api import openai
from tandem.coordinator.api.browsers import BrowserRules, OriginRules
from tandem.coordinator.api.console import Console
from tandem.coordinator.api.dialect import Dialect
from tandem.coordinator.api.endpoint import InferenceEndpoint
from tandem.coordinator.api.errors import ErrorResponses
from tandem.coordinator.api.held import HeldBytes
from tandem.coordinator.api.models import Inventory
from tandem.coordinator.api.pace import Pacer
from tandem.coordinator.api.provider_socket import ProviderSocket
from tandem.coordinator.api.providers import ProviderRoutes
from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.metrics import Metrics
from tandem.coordinator.requests.dispatch import Dispatcher
from tandem.coordinator.routing.registry import Registry
from tandem.errors import TandemError
from tandem.protocol import CONNECT_PATH
from tandem.runtime import LoopWatch, new_id

_MAX_REQUEST_ID_LENGTH = 128

#: What is served, and in whose words. Errors of routes that none of them has are the first one's.
DIALECTS: tuple[Dialect, ...] = (openai.DIALECT,)


def build_app(
    config: CoordinatorConfig,
    registry: Registry,
    dispatcher: Dispatcher,
    authenticator: Authenticator,
    provider_socket: ProviderSocket,
    metrics: Metrics,
    watch: LoopWatch,
) -> ASGIApp:
    inventory = Inventory(registry, dispatcher, authenticator, metrics)
    providers = ProviderRoutes(registry, authenticator, watch)
    console = Console()
    routes: list[BaseRoute] = [
        *_inference_routes(config, dispatcher, authenticator),
        Route("/v1/models", inventory.models),
        Route("/v1/models/capacity", inventory.capacity),
        Route("/v1/models/{model:path}", inventory.model),
        Route("/v1/status", providers.status),
        Route("/v1/providers", providers.providers),
        Route("/v1/providers/attestation", providers.attestation),
        Route("/v1/providers/{provider}/drain", providers.drain, methods=["POST"]),
        Route("/v1/providers/{provider}/resume", providers.resume, methods=["POST"]),
        Route("/v1/cluster/peers", providers.peers),
        Route("/metrics", inventory.metrics),
        Route("/", console.enter),
        Route("/console", console.enter),
        Route("/console/{file:path}", console.file),
        Route("/healthz", inventory.healthz),
        Route("/readyz", inventory.readyz),
        WebSocketRoute(CONNECT_PATH, provider_socket.serve),
    ]
    errors = ErrorResponses(DIALECTS)
    app = Starlette(
        routes=routes,
        exception_handlers={
            TandemError: errors.on_tandem_error,
            HTTPException: errors.on_http_exception,
            Exception: errors.on_defect,
        },
    )
    app.router.redirect_slashes = False
    rules = OriginRules(
        config.cors_origins,
        keys_required=config.require_keys,
        host=config.host,
        is_open=_is_for_pages,
    )
    return _with_request_id(_without_last_slash(BrowserRules(app, rules, errors)))


def _is_for_pages(path: str) -> bool:
    """What runs models and names them; the rest is the operator's."""
    return path.startswith("/v1/models") or any(dialect.serves(path) for dialect in DIALECTS)


def _without_last_slash(app: ASGIApp) -> ASGIApp:
    """`/v1/models/` is `/v1/models`: a redirect would lose the body of a request."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.endswith("/") and path.startswith("/v1/"):
            scope = {**scope, "path": path[:-1], "raw_path": scope["raw_path"][:-1]}
        await app(scope, receive, send)

    return wrapped


def closing_response(error: TandemError) -> Response:
    """How an error is answered that ends a connection before there is a route."""
    return ErrorResponses(DIALECTS).closing(error)


def _inference_routes(
    config: CoordinatorConfig, dispatcher: Dispatcher, authenticator: Authenticator
) -> list[BaseRoute]:
    pacer = Pacer()
    held = HeldBytes(config.max_held_bytes, config.max_held_bytes_each)
    return [
        Route(
            route.path,
            InferenceEndpoint(
                route,
                dialect.credentials,
                config=config,
                dispatcher=dispatcher,
                authenticator=authenticator,
                pacer=pacer,
                held=held,
            ),
            methods=["POST"],
        )
        for dialect in DIALECTS
        for route in dialect.routes
    ]


def _with_request_id(app: ASGIApp) -> ASGIApp:
    """Every answer carries `x-request-id`: the consumer's own, or one made here."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        request_id = _request_id(scope)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], (b"x-request-id", request_id)]
                message = {**message, "headers": headers}
            await send(message)

        await app(scope, receive, send_with_id)

    return wrapped


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and 0 < len(value) <= _MAX_REQUEST_ID_LENGTH:
            given: bytes = value
            if all(32 < byte < 127 for byte in given):
                return given
    return b"req-" + new_id().encode()
