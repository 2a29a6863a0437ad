"""A provider process: load the model, join the coordinator, serve, drain."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Sequence

import psutil
import structlog

from tandem import __version__, engine, protocol
from tandem.provider.config import ProviderConfig
from tandem.provider.connection import CoordinatorConnection
from tandem.provider.runner import RequestRunner
from tandem.runtime import Stop

log = structlog.get_logger(__name__)


async def serve(
    config: ProviderConfig,
    stop: Stop,
    *,
    on_ready: Callable[[list[protocol.ModelInfo]], None] | None = None,
) -> None:
    """Serves until `stop`, then drains: what runs is finished within `drain_timeout_s`.

    `on_ready` is called once the model and its tokenizer are loaded and the coordinator knows.
    Raises CheckpointError, ConfigurationError, AuthenticationFailed or ProtocolError.
    """
    bridge = _EventBridge(asyncio.get_running_loop())
    loaded = await asyncio.to_thread(_load, config, bridge)
    try:
        info = model_info(config, loaded)
        runner = RequestRunner(loaded.engine, info.name)
        bridge.attach(runner)
        connection = CoordinatorConnection(
            config, _hello(config, info), runner, lambda ready: _heartbeat(loaded.engine, ready)
        )
        async with asyncio.TaskGroup() as tasks:
            connected = tasks.create_task(connection.run())
            ready = tasks.create_task(_announce(connection, [info], on_ready))
            await stop.wait()
            ready.cancel()
            await _drain(connection, runner, config.drain_timeout_s)
            connected.cancel()
    finally:
        if not await asyncio.to_thread(loaded.engine.close):
            log.error("engine_did_not_stop")


class _EventBridge:
    """Hands the engine thread's events to the runner on the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._runner: RequestRunner | None = None

    def attach(self, runner: RequestRunner) -> None:
        self._runner = runner

    def __call__(self, events: Sequence[engine.EngineEvent]) -> None:
        assert self._runner is not None, "there are no events before the first request"
        self._loop.call_soon_threadsafe(self._runner.on_events, events)


def _load(config: ProviderConfig, bridge: _EventBridge) -> engine.LoadedModel:
    options = engine.EngineOptions(
        directory=engine.resolve_model(config.model),
        dtype=config.dtype,
        quantize=config.quantize,
        threads=config.threads,
        kv_tokens=config.kv_tokens,
        scheduling=engine.SchedulerLimits(max_sequences=config.max_sequences),
    )
    return engine.load_engine(options, bridge)


def model_info(config: ProviderConfig, loaded: engine.LoadedModel) -> protocol.ModelInfo:
    return protocol.ModelInfo(
        name=protocol.ModelName(config.model_name or engine.model_name(config.model)),
        architecture=loaded.architecture,
        parameters=loaded.parameters,
        context_length=loaded.context_length,
        kv_tokens=loaded.kv_tokens,
        dtype=loaded.dtype,
        quantization=loaded.quantization,
    )


def _hello(config: ProviderConfig, info: protocol.ModelInfo) -> protocol.Hello:
    return protocol.Hello(
        versions=list(protocol.SUPPORTED_VERSIONS),
        join_token=config.join_token,
        name=config.name,
        software=f"tandem/{__version__}",
        hardware=protocol.Hardware(
            hostname=platform.node(),
            platform=platform.platform(terse=True),
            device="cpu",
            threads=config.threads or psutil.cpu_count() or 1,
            memory_bytes=psutil.virtual_memory().total,
        ),
        models=[info],
    )


def _heartbeat(running: engine.Engine, ready: bool) -> protocol.Heartbeat:
    load = running.load()
    return protocol.Heartbeat(
        ready=ready,
        running=load.running,
        waiting=load.waiting,
        free_blocks=load.free_blocks,
        total_blocks=load.total_blocks,
    )


async def _announce(
    connection: CoordinatorConnection,
    models: list[protocol.ModelInfo],
    on_ready: Callable[[list[protocol.ModelInfo]], None] | None,
) -> None:
    await connection.wait_joined()
    if on_ready is not None:
        on_ready(models)


async def _drain(
    connection: CoordinatorConnection, runner: RequestRunner, timeout_s: float
) -> None:
    connection.drain()
    try:
        async with asyncio.timeout(timeout_s):
            await runner.wait_idle()
    except TimeoutError:
        log.warning("drain_timed_out", timeout_s=timeout_s)
