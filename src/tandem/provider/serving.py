"""The engine that a provider has at the moment: alone, as rank 0 of a cluster, or none.

One at a time: a shard and the whole model would not fit together. All changes pass here, so
that the runner and the heartbeat always tell the truth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import structlog

from tandem import engine
from tandem.provider.runner import RequestRunner
from tandem.runtime import drain

log = structlog.get_logger(__name__)

_NOTHING = engine.EngineStats()


class Serving:
    """Implements `cluster.Host`. `on_change` is called whenever readiness or role may differ."""

    def __init__(
        self,
        setup: engine.ModelSetup,
        runner: RequestRunner,
        *,
        drain_timeout_s: float,
        on_change: Callable[[], None],
    ) -> None:
        self._setup = setup
        self._runner = runner
        self._drain_timeout_s = drain_timeout_s
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._changing = asyncio.Lock()
        self._loaded: engine.LoadedModel | None = None
        self._follows = False
        self._alone = False
        self.settled = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether requests can be run here: an engine is there, and its tokenizer with it."""
        return self._loaded is not None

    @property
    def serves_alone(self) -> bool:
        return self._alone

    @property
    def stats(self) -> engine.EngineStats:
        return _NOTHING if self._loaded is None else self._loaded.engine.stats()

    async def serve_alone(self, why: str | None = None) -> None:
        """Loads the whole model, unless something is served already. Raises CheckpointError.

        `why` a machine that was to be part of a cluster does this, for the log.
        """
        async with self._changing:
            if self._loaded is not None or self._follows:
                return
            loaded = await self._load(
                lambda: engine.load_engine(self._setup.options, self._deliver)
            )
            await self._attach(loaded)
            self._alone = True
            log.info("serving_alone", kv_tokens=loaded.kv_tokens, why=why)

    async def release(self) -> None:
        async with self._changing:
            self._runner.detach()
            self._changed()
            await drain(self._runner.wait_idle(), self._drain_timeout_s)
            await self._close()

    async def activate(self, executor: engine.Executor | None, blocks: int) -> None:
        async with self._changing:
            if executor is None:
                self._follows = True
                self.settled.set()
                self._changed()
                return
            loaded = await self._load(
                lambda: engine.start_engine(self._setup, executor, blocks, self._deliver)
            )
            await self._attach(loaded)

    async def deactivate(self, reason: str) -> None:
        async with self._changing:
            self._follows = False
            self._runner.detach()
            await self._close()
            self._changed()
            log.info("session_ended", reason=reason)

    async def close(self) -> None:
        async with self._changing:
            self._runner.detach()
            await self._close()

    async def _load(self, load: Callable[[], engine.LoadedModel]) -> engine.LoadedModel:
        """Reading weights cannot be interrupted: when cancelled, it is waited for and undone."""
        reading = asyncio.ensure_future(asyncio.to_thread(load))
        try:
            return await asyncio.shield(reading)
        except asyncio.CancelledError:
            await asyncio.wait([reading])
            if reading.exception() is None:
                reading.result().engine.close()
            raise

    async def _attach(self, loaded: engine.LoadedModel) -> None:
        try:
            await asyncio.to_thread(loaded.engine.warm_up)
        except BaseException:
            loaded.engine.close()
            raise
        self._loaded = loaded
        self._runner.attach(loaded.engine)
        self.settled.set()
        self._changed()

    async def _close(self) -> None:
        loaded, self._loaded = self._loaded, None
        self._alone = False
        if loaded is not None and not await asyncio.to_thread(loaded.engine.close):
            log.error("engine_did_not_stop")

    def _changed(self) -> None:
        self._on_change()

    def _deliver(self, events: Sequence[engine.EngineEvent]) -> None:
        """Called on the engine's thread."""
        self._loop.call_soon_threadsafe(self._runner.on_events, events)
