"""The provider's side of coordinators' links, without a socket, and whole requests over several."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from tests.simulation import virtual_time
from tests.support.registered import SEALING, beat, join, make_registry

from tandem import protocol
from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.fleet.link import ProviderLink
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
from tandem.security import ProviderKeys

_KEYS = ProviderKeys(SEALING)


@dataclass
class LinkPlayed:
    """Reads what waits to be sent on `link`, whose nonce is empty, and answers it."""

    link: ProviderLink
    cancelled: list[protocol.RequestId] = field(default_factory=list)
    granted: list[int] = field(default_factory=list)
    request: protocol.Request | None = None
    _seals: dict[protocol.RequestId, Callable[[bytes], bytes]] = field(default_factory=dict)

    async def work(self) -> protocol.Work:
        """The next request, opened; what follows is answered to it."""
        while True:
            message = await self.link.next_outgoing()
            if isinstance(message, protocol.Request):
                break
            self._note(message)
        work = protocol.decode_work(_KEYS.open(message, b""))
        self.request = message
        self._seals[message.request_id] = _KEYS.replies(work.reply_key, message.request_id)
        return work

    async def generate(self) -> protocol.Generate:
        work = await self.work()
        assert isinstance(work, protocol.Generate)
        return work

    async def note(self) -> None:
        """Reads one message that is no request."""
        self._note(await self.link.next_outgoing())

    def answer(self, *parts: protocol.AnswerPart) -> None:
        """To the latest request. Raises ProtocolError when the rules are broken."""
        assert self.request is not None
        request_id = self.request.request_id
        for part in parts:
            sealed = self._seals[request_id](protocol.encode(part))
            self.link.deliver(protocol.Reply(request_id, sealed))

    def _note(self, message: protocol.ToProvider) -> None:
        if isinstance(message, protocol.Cancel):
            self.cancelled.append(message.request_id)
        elif isinstance(message, protocol.Grant):
            self.granted.append(message.chunks)


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
    heartbeat: protocol.Heartbeat | None = None,
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
                    registry.heartbeat(provider, heartbeat or beat())
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
