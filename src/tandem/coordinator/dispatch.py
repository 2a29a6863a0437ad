"""From a request to a stream of its tokens: reserve a provider, send it there, give it back."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from tandem.coordinator.config import CoordinatorConfig
from tandem.coordinator.provider import Provider
from tandem.coordinator.registry import Registry
from tandem.coordinator.relay import ProviderLink, RequestStream
from tandem.errors import (
    NoProviderAvailable,
    Overloaded,
    ProviderLost,
    RequestTimedOut,
    ServiceStopping,
)
from tandem.protocol import Generate, ModelName, Prompt, ProviderId, RequestId, Sampling


class Ask(msgspec.Struct, frozen=True):
    """What a consumer wants generated: `n` samples of each prompt."""

    model: ModelName
    prompts: list[Prompt]
    n: int
    sampling: Sampling


class Dispatcher:
    """The requests of this process, from admission to their end."""

    def __init__(self, config: CoordinatorConfig, registry: Registry) -> None:
        self._config = config
        self._registry = registry
        self._links: dict[ProviderId, ProviderLink] = {}
        self._under_way = 0
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def stopping(self) -> bool:
        return self._stopping

    def connect(self, provider: Provider) -> ProviderLink:
        link = ProviderLink(self._config.max_outgoing)
        self._links[provider.id] = link
        return link

    def disconnect(self, provider: Provider) -> None:
        link = self._links.pop(provider.id)
        link.lose(ProviderLost("the provider was lost in mid-request: send it again"))

    @asynccontextmanager
    async def dispatch(self, ask: Ask) -> AsyncIterator[RequestStream]:
        """The stream of one request; leaving the context ends it everywhere.

        Raises ServiceStopping, Overloaded, ModelNotFound, NoProviderAvailable, or RequestTimedOut
        when the time for all of it, the body of the `async with` included, has run out.
        """
        if self._stopping:
            raise ServiceStopping("the service is stopping: retry in a moment")
        if self._under_way >= self._config.max_requests:
            raise Overloaded(f"{self._under_way} requests are under way, which is the limit")
        reservation = self._registry.reserve_provider(ask.model)
        self._under_way += 1
        self._idle.clear()
        try:
            link = self._links.get(reservation.provider.id)
            if link is None:
                raise NoProviderAvailable("the provider has just left: retry in a moment")
            async with (
                asyncio.timeout(self._config.request_timeout_s),
                link.open(self._generate(ask)) as stream,
            ):
                yield stream
        except TimeoutError as error:
            limit_s = self._config.request_timeout_s
            raise RequestTimedOut(
                f"not finished after {limit_s:g} s, which is the limit"
            ) from error
        finally:
            reservation.release()
            self._under_way -= 1
            if self._under_way == 0:
                self._idle.set()

    async def drain(self) -> None:
        """Admits nothing more; returns when what is under way has ended."""
        self._stopping = True
        await self._idle.wait()

    def _generate(self, ask: Ask) -> Generate:
        return Generate(
            request_id=RequestId(secrets.token_hex(12)),
            model=ask.model,
            prompts=ask.prompts,
            n=ask.n,
            sampling=ask.sampling,
            deadline_s=self._config.request_timeout_s,
            window=self._config.window,
        )
