"""A provider process: join the coordinator, serve alone or in a cluster, drain."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable, Coroutine
from contextlib import closing

import psutil
import structlog

from tandem import __version__, engine, protocol
from tandem.cluster import (
    ClusterConfig,
    ClusterNode,
    State,
    available_memory_bytes,
    measure_node,
)
from tandem.protocol.cluster import NodeReport, Parallelism
from tandem.provider.config import ProviderConfig
from tandem.provider.connection import CoordinatorConnection
from tandem.provider.runner import RequestRunner
from tandem.provider.serving import Serving
from tandem.provider.status_file import StatusFile
from tandem.runtime import Stop, drain
from tandem.security import Prover, load_node_key

log = structlog.get_logger(__name__)

_STATUS_INTERVAL_S = 5.0


async def serve(
    config: ProviderConfig,
    stop: Stop,
    *,
    on_ready: Callable[[list[protocol.ModelInfo]], None] | None = None,
) -> None:
    """Serves until `stop`, then drains: what runs is finished within `drain_timeout_s`.

    `on_ready` is called once this machine serves, alone or as a rank, and the coordinator knows.
    Raises CheckpointError, ConfigurationError, AuthenticationFailed or ProtocolError.
    """
    setup = await asyncio.to_thread(_prepare, config)
    with closing(engine.PromptEncoder(setup.options.directory)) as encoder:
        provider = _Provider(config, setup, encoder)
        if config.cluster is not None and config.cluster.parallelism is not Parallelism.SINGLE:
            await provider.join_cluster(config.cluster)
        await provider.run(stop, on_ready)


class _Provider:
    """The parts of a provider, put together."""

    def __init__(
        self, config: ProviderConfig, setup: engine.ModelSetup, encoder: engine.PromptEncoder
    ) -> None:
        self._config = config
        self._setup = setup
        self._info = _model_info(config, setup)
        self._device = setup.backend.describe(setup.device)
        self._runner = RequestRunner(encoder, self._info.name, setup.sampling)
        self._serving = Serving(
            setup,
            self._runner,
            drain_timeout_s=config.drain_timeout_s,
            on_change=self._on_change,
        )
        self._connection = CoordinatorConnection(
            config,
            self._registration,
            Prover(load_node_key(config.identity.key_path), config.device_key),
            self._runner,
            self._heartbeat,
        )
        self._node: ClusterNode | None = None
        self._status = None if config.status_path is None else StatusFile(config.status_path)
        self._too_big_said: str | None = None
        self._started_at = time.monotonic()

    async def join_cluster(self, cluster: ClusterConfig) -> None:
        facts = await asyncio.to_thread(measure_node, self._setup, self._info.name)
        self._node = ClusterNode(cluster, self._setup, facts, self._serving)

    async def run(
        self, stop: Stop, on_ready: Callable[[list[protocol.ModelInfo]], None] | None
    ) -> None:
        """Order matters at the end: drain first, then leave the cluster, then the coordinator."""
        try:
            async with asyncio.TaskGroup() as tasks:
                connected = tasks.create_task(self._connection.run())
                ready = tasks.create_task(self._announce(on_ready))
                others = [tasks.create_task(work) for work in self._work()]
                await stop.wait()
                ready.cancel()
                self._connection.drain()
                await drain(self._runner.wait_idle(), self._config.drain_timeout_s)
                for task in others:
                    task.cancel()
                connected.cancel()
        finally:
            await self._serving.close()
            if self._status is not None:
                self._status.remove()

    def _work(self) -> list[Coroutine[None, None, None]]:
        if self._node is None:
            return [self._serving.serve_alone()]
        return [self._node.run(), self._serve_alone_meanwhile(self._node), self._report(self._node)]

    async def _serve_alone_meanwhile(self, node: ClusterNode) -> None:
        """Serves alone whenever the others have been missing for a while, if that is allowed."""
        cluster = self._config.cluster
        if cluster is None or cluster.parallelism is not Parallelism.AUTO:
            return
        while True:
            try:
                async with asyncio.timeout(self._config.alone_after_s):
                    await node.changed.wait()
                node.changed.clear()
            except TimeoutError:
                if node.state is State.PAIRING and not self._serving.ready:
                    await self._try_alone(node)

    async def _try_alone(self, node: ClusterNode) -> None:
        need, why = node.model_bytes, node.why_not
        if need <= available_memory_bytes(self._setup):
            await self._serving.serve_alone(why)
        elif why != self._too_big_said:  # said once for each reason, not at each attempt
            self._too_big_said = why
            log.warning("too_big_to_serve_alone", model_bytes=need, why=why)

    async def _announce(self, on_ready: Callable[[list[protocol.ModelInfo]], None] | None) -> None:
        await self._serving.settled.wait()
        await self._connection.wait_joined()
        if on_ready is not None:
            on_ready([self._info])

    def _heartbeat(self) -> protocol.Heartbeat:
        stats = self._serving.stats
        return protocol.Heartbeat(
            ready=self._serving.ready,
            running=stats.running,
            waiting=stats.waiting,
            free_blocks=stats.free_blocks,
            total_blocks=stats.total_blocks,
            block_tokens=self._setup.options.block_size,
            max_sequences=self._config.max_sequences,
            steps=stats.steps,
            cluster_role=protocol.cluster_role(None if self._node is None else self._node.role),
            counters=self._counters(stats),
            members=[] if self._node is None else list[str](self._node.members),
            plaintext_collectives=self._node is not None and self._node.adds_up_in_plaintext,
            device=self._device.label,
        )

    def _counters(self, stats: engine.EngineStats) -> dict[str, int]:
        own = {
            "uptime_seconds": int(time.monotonic() - self._started_at),
            "requests": self._runner.started,
            "requests_failed": self._runner.failed,
            "tokens_guessed": stats.guessed,
            "tokens_guessed_right": stats.guessed_right,
        }
        return own | ({} if self._node is None else self._node.counters)

    def _registration(self, sealing_key: bytes) -> protocol.Registration:
        return protocol.Registration(
            name=self._config.name,
            software=f"tandem/{__version__}",
            hardware=_hardware(self._config, self._device),
            models=[self._info],
            sealing_key=sealing_key,
            certificate=self._config.identity.certificate_der,
            link_addresses=[] if self._node is None else self._node.addresses,
        )

    def _on_change(self) -> None:
        self._connection.notify()
        if self._node is not None:
            self._write_report(self._node)

    async def _report(self, node: ClusterNode) -> None:
        """Keeps the status file fresh: latencies change without an event."""
        while True:
            self._write_report(node)
            await asyncio.sleep(_STATUS_INTERVAL_S)

    def _write_report(self, node: ClusterNode) -> None:
        if self._status is not None:
            self._status.write(NodeReport(os.getpid(), self._info.name, node.report()))


def _prepare(config: ProviderConfig) -> engine.ModelSetup:
    return engine.prepare(
        engine.EngineOptions(
            directory=engine.resolve_model(config.model),
            dtype=config.dtype,
            quantization=None if config.quantize is None else engine.Quantization(config.quantize),
            kv_cache=None if config.kv_cache is None else engine.CacheFormat(config.kv_cache),
            device=config.device,
            threads=config.threads,
            kv_tokens=config.kv_tokens,
            speculate=engine.speculate_from(config.speculate),
            scheduling=engine.SchedulerLimits(max_sequences=config.max_sequences),
        )
    )


def _model_info(config: ProviderConfig, setup: engine.ModelSetup) -> protocol.ModelInfo:
    return protocol.ModelInfo(
        name=protocol.ModelName(config.model_name or engine.model_name(config.model)),
        architecture=setup.config.architecture,
        parameters=setup.parameters,
        context_length=setup.config.context_length,
        dtype=setup.dtype,
        quantization=config.quantize,
        max_token_bytes=setup.tokenizer.max_token_bytes,
        vocabulary=setup.config.vocab_size,
    )


def _hardware(config: ProviderConfig, device: engine.DeviceFacts) -> protocol.Hardware:
    return protocol.Hardware(
        hostname=platform.node(),
        platform=platform.platform(terse=True),
        device=device.label,
        threads=config.threads or psutil.cpu_count() or 1,
        memory_bytes=device.memory_bytes,
    )
