"""With `auto` a machine that cannot be part of a cluster serves alone, and says why."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict
from tests.support.links import TIMEOUT_S, identities, paired

from tandem.cluster import ClusterConfig
from tandem.cluster import node as module
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.protocol.cluster import Parallelism
from tandem.provider import ProviderConfig, serve
from tandem.runtime import Stop, free_port
from tandem.security import Identity


def _provider(directory: Path, own: Identity, other: Identity, **cluster: object) -> ProviderConfig:
    """One that looks in vain for a coordinator, which is nobody's concern here."""
    fields = {"identity": own, "paired": [paired(other)], "name": own.key_path.parent.name}
    return ProviderConfig(
        coordinator_url="ws://127.0.0.1:1",
        join_token="none",
        model=str(directory / "m"),
        name=own.key_path.parent.name,
        identity=own,
        device="cpu",
        threads=1,
        kv_tokens=256,
        cluster=ClusterConfig(**(fields | {"ranks": 2} | cluster)),  # type: ignore[arg-type]
        alone_after_s=0.5,
    )


async def _serve_until_alone(
    providers: list[ProviderConfig], logs: list[EventDict], count: int
) -> None:
    """Serves all of them until so many serve alone, and then stops them in order."""
    stop = Stop()
    async with asyncio.timeout(TIMEOUT_S), asyncio.TaskGroup() as tasks:
        for each in providers:
            tasks.create_task(serve(each, stop))
        while len(_named(logs, "serving_alone")) < count:  # noqa: ASYNC110 - logs wake nobody
            await asyncio.sleep(0.05)
        stop.request()


def _named(logs: list[EventDict], event: str) -> list[EventDict]:
    return [line for line in logs if line["event"] == event]


def _listening_and_dialling(directory: Path, **cluster: object) -> list[ProviderConfig]:
    zero, one = identities(directory, 2)
    create_checkpoint(directory / "m", family="llama", dtype="float32")
    port = free_port("127.0.0.1")
    return [
        _provider(directory, zero, one, listen=("127.0.0.1", port), **cluster),
        _provider(directory, one, zero, peers=[("127.0.0.1", port)]),
    ]


def test_machines_without_a_plan_serve_alone_and_ask_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no memory for a share of the model, so they say; for the whole of it there is."""
    monkeypatch.setattr(module, "available_memory_bytes", lambda _: 1)
    with capture_logs() as logs:
        asyncio.run(_serve_until_alone(_listening_and_dialling(tmp_path), logs, 2))
    for line in _named(logs, "serving_alone"):
        assert "has no memory" in line["why"]
    planned = [line for line in _named(logs, "cluster_state") if line["state"] == "planning"]
    assert len(planned) == 2  # one attempt, seen from both ends


def test_machines_whose_options_differ_serve_alone_where_that_is_allowed(tmp_path: Path) -> None:
    providers = _listening_and_dialling(tmp_path, parallelism=Parallelism.TENSOR)
    with capture_logs() as logs:
        asyncio.run(_serve_until_alone(providers, logs, 1))
    (line,) = _named(logs, "serving_alone")
    assert "--parallelism tp there, auto here" in line["why"]
