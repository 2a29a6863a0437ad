"""A coordinator process: listen, serve, and stop in order.

The order of a stop: admit nothing new, let what is under way end by the deadline, close the
connections (providers reconnect elsewhere, or wait), close the stores.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import structlog
import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from tandem.coordinator.accounts.authentication import Authenticator
from tandem.coordinator.accounts.limits import Limiter
from tandem.coordinator.accounts.machines import MachineAuthenticator
from tandem.coordinator.accounts.stores import stores_in
from tandem.coordinator.api import build_app, closing_response
from tandem.coordinator.api.provider_socket import ProviderSocket
from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.metrics import Metrics
from tandem.coordinator.requests.dispatch import Dispatcher
from tandem.coordinator.routing.registry import Registry
from tandem.coordinator.server.capacity import Capacity
from tandem.coordinator.server.census import Census
from tandem.coordinator.server.certificate import Certificate
from tandem.coordinator.server.events import Events
from tandem.coordinator.server.server import Server
from tandem.coordinator.server.shared import Shared
from tandem.runtime import LoopWatch, Stop, drain, only_one, raise_descriptor_limit
from tandem.security import ChainVerifier, load_roots

log = structlog.get_logger(__name__)

_BACKLOG = 2048
_LOCK_FILE = "coordinator.lock"


async def serve(
    config: CoordinatorConfig, stop: Stop, *, on_listening: Callable[[int], None] | None = None
) -> None:
    """Serves until `stop`. `on_listening` gets the port once connections are accepted.

    Raises OSError when the address cannot be listened on, and ConfigurationError when another
    coordinator has the folder: it would take the first one's open requests for those of a crash,
    and each would count limits by itself.
    """
    with (
        only_one("a coordinator", config.data_dir, _LOCK_FILE),
        _listening_socket(config.host, config.port) as listener,
    ):
        opened = await asyncio.to_thread(_Opened, config)
        try:
            await _serve(config, stop, opened, listener, on_listening)
        finally:
            await asyncio.to_thread(opened.close)


class _Opened:
    """What is kept on disk, and the roots that attestations are checked against."""

    def __init__(self, config: CoordinatorConfig) -> None:
        roots = config.attestation_roots
        self.verifiers = [] if roots is None else [ChainVerifier(load_roots(roots))]
        stores = stores_in(config.data_dir)
        self.keys = stores.keys()
        self.nodes = stores.nodes()
        self.ledger = stores.ledger()

    def close(self) -> None:
        self.ledger.close()
        self.nodes.close()
        self.keys.close()


async def _serve(
    config: CoordinatorConfig,
    stop: Stop,
    opened: _Opened,
    listener: socket.socket,
    on_listening: Callable[[int], None] | None,
) -> None:
    registry = Registry(stale_after_s=config.stale_after_s, max_providers=config.max_providers)
    metrics = Metrics(registry)
    watch = LoopWatch(metrics.loop_stopped)
    metrics.watch_loop(lambda: watch.longest_s)
    metrics.watch_ledger(opened.ledger)
    dispatcher = Dispatcher(
        config,
        registry,
        limiter=Limiter(opened.ledger.spent, time.monotonic),
        ledger=opened.ledger,
        on_ended=metrics.request_ended,
    )
    providers = ProviderSocket(
        config,
        registry,
        dispatcher,
        MachineAuthenticator(opened.nodes, config.join_token),
        opened.verifiers,
        count=metrics.provider_event,
    )
    app = build_app(
        config,
        registry,
        dispatcher,
        Authenticator(opened.keys, required=config.require_keys),
        providers,
        metrics,
        watch,
    )
    shared = _shared(app, config, metrics)
    server = Server(shared, listener, close_timeout_s=config.close_timeout_s)
    port = listener.getsockname()[1]
    closing = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch.run())
        cutting = tasks.create_task(providers.cut_who_is_shut_out())
        tasks.create_task(server.serve(closing))
        renewing = tasks.create_task(_renew(shared.certificate))
        log.info("listening", host=config.host, port=port)
        if on_listening is not None:
            on_listening(port)
        await stop.wait()
        await drain(dispatcher.drain(), config.drain_timeout_s)
        renewing.cancel()
        dispatcher.give_up()
        closing.set()
        watching.cancel()
        cutting.cancel()


async def _renew(certificate: Certificate | None) -> None:
    if certificate is not None:
        await certificate.watch()


def _certificate(config: CoordinatorConfig) -> Certificate | None:
    if config.tls_certificate is None or config.tls_key is None:
        return None
    return Certificate(config.tls_certificate, config.tls_key)


def _shared(app: ASGIApp, config: CoordinatorConfig, metrics: Metrics) -> Shared:
    events = Events(metrics.connection_event)
    capacity = Capacity.of_descriptors(raise_descriptor_limit(), config.max_providers)
    census = Census(capacity, events.happened)
    metrics.watch_connections(census.counts)
    uvicorn_config = _uvicorn_config(app)
    uvicorn_config.load()
    return Shared(
        uvicorn_config,
        ServerState(),
        config.connections,
        census,
        events,
        closing_response,
        _certificate(config),
    )


def _uvicorn_config(app: ASGIApp) -> uvicorn.Config:
    """What uvicorn's protocols ask of their server, which is ours."""
    return uvicorn.Config(
        app,
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_ping_interval=None,  # heartbeats tell more
        lifespan="off",
        log_config=None,
        access_log=False,
    )


def _listening_socket(host: str, port: int) -> socket.socket:
    """Raises OSError with the reason in its `errno`."""
    family, kind, number, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, number)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
