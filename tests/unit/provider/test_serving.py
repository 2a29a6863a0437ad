"""The engine that a provider has: what is loaded is closed, whenever the provider is stopped."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from tandem import engine
from tandem.errors import CheckpointError
from tandem.provider.serving import Serving


class Loading:
    """Weights that are read until `go_on`; then an engine is there, or reading has failed."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.closed = 0
        self._failure = failure

    def load_engine(self, *_: object) -> object:
        self.begun.set()
        assert self.go_on.wait(60.0)
        if self._failure is not None:
            raise self._failure
        return SimpleNamespace(engine=self)

    def close(self) -> bool:
        self.closed += 1
        return True


def _stop_while_loading(monkeypatch: pytest.MonkeyPatch, loading: Loading) -> None:
    monkeypatch.setattr(engine, "load_engine", loading.load_engine)

    async def scenario() -> None:
        nothing: Any = SimpleNamespace(options=None)
        serving = Serving(nothing, nothing, drain_timeout_s=0.0, on_change=lambda: None)
        serve = asyncio.create_task(serving.serve_alone())
        await asyncio.to_thread(loading.begun.wait, 60.0)
        serve.cancel()
        await asyncio.sleep(0)
        loading.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await serve
        assert not serving.ready

    asyncio.run(scenario())


def test_an_engine_that_nobody_waits_for_any_more_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loading = Loading()
    _stop_while_loading(monkeypatch, loading)
    assert loading.closed == 1


def test_a_failure_that_nobody_waits_for_any_more_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loading = Loading(CheckpointError("damaged"))
    _stop_while_loading(monkeypatch, loading)
    assert loading.closed == 0
