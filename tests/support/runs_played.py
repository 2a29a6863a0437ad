"""A request on its way over several providers that the test plays, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from tests.simulation import virtual_time
from tests.support.registered import beat, join, make_registry
from tests.support.requests_played import LinkPlayed

from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.fleet.provider import Hold, Provider
from tandem.coordinator.requests.consumer import Consumer
from tandem.coordinator.requests.estimator import Estimator
from tandem.coordinator.requests.inference_request import (
    Embedding,
    Generation,
    InferenceRequest,
)
from tandem.coordinator.requests.run import RequestRun
from tandem.coordinator.routing.admission import Admission
from tandem.coordinator.routing.registry import Registry
from tandem.errors import (
    ProviderLost,
)
from tandem.protocol import (
    Chunk,
    Delta,
    ErrorInfo,
    Failed,
    FinishReason,
    ModelName,
    Sampling,
    TextPrompt,
    Work,
)

MODEL = ModelName("m")
CONFIG = CoordinatorConfig(host="", port=0, data_dir=Path(), join_token="", patience_s=0.0)
#: Of the scenarios, the current one last.
REGISTRIES: list[Registry] = []
NOT_NOW = ["overloaded", "no_provider_available", "service_stopping", "model_not_found"]
GENERATION = Generation([TextPrompt("hi")], 1, Sampling(max_tokens=8))

Scenario = Callable[[RequestRun, list[Provider]], Awaitable[None]]


def play(
    scenario: Scenario,
    *,
    providers: int = 2,
    task: Generation | Embedding = GENERATION,
    **settings: float,
) -> None:
    """On a virtual clock. The providers live on, whatever becomes of their links."""

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        registry = make_registry(clock)
        REGISTRIES.append(registry)
        joined = [join(registry, [MODEL]) for _ in range(providers)]

        async def live() -> None:
            while True:
                for provider in joined:
                    registry.heard(provider)
                    registry.heartbeat(provider, beat())
                await asyncio.sleep(1.0)

        living = asyncio.create_task(live())
        await asyncio.sleep(0)
        run = RequestRun(
            InferenceRequest(MODEL, task),
            Consumer(),
            config=msgspec.structs.replace(CONFIG, **settings),
            admission=Admission(registry, max_waiting=4, patience_s=0.0),
            estimator=Estimator(registry.affinity),
            clock=clock,
        )
        try:
            await scenario(run, joined)
        finally:
            run.close()
            living.cancel()
        assert all((p.in_flight, p.beginning) == (0, 0) for p in joined)

    virtual_time.run(main())


def dies(provider: Provider) -> None:
    """As its socket does it, but that others stay in the registry."""
    REGISTRIES[-1].lost(provider, fatal=True)
    provider.link.lose(ProviderLost("it died"))
    REGISTRIES[-1].hold(provider, Hold.DRAINED)


async def asked(providers: list[Provider]) -> tuple[LinkPlayed, Work]:
    """The next request, and who is asked."""
    played = [LinkPlayed(provider.link) for provider in providers if provider.is_ready]
    reading = {asyncio.ensure_future(link.work()): link for link in played}
    done, waiting = await asyncio.wait(reading, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    (first,) = done
    return reading[first], first.result()


def tokens(*ids: int, finish: FinishReason | None = None) -> Chunk:
    return Chunk([Delta(0, "", list(ids), finish=finish)], prompt_tokens=5)


def failed(code: str) -> Failed:
    return Failed(ErrorInfo(code, "played", "model"))


def faults(providers: list[Provider]) -> int:
    """So many that two more faults would set aside, for all that is known."""
    counted = 0
    for provider in providers:
        ticket = provider.breaker.begin()
        provider.breaker.fault(ticket, 0.0)
        provider.breaker.fault(ticket, 0.0)
        counted += provider.breaker.is_open
    return counted
