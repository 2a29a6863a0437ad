"""The providers that are connected, and reservations on them.

Everything here runs on the event loop without awaiting, so each method is atomic.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator

from tandem.coordinator.provider import Provider, read_role
from tandem.coordinator.routing import Eligible, Limits, Reason, choose, eligibility
from tandem.errors import ModelNotFound, NoProviderAvailable, Overloaded, ProtocolError
from tandem.protocol import Heartbeat, Hello, ModelInfo, ModelName, ProviderId

#: Names that are remembered after their last provider has gone: for them 503, not 404.
_MAX_KNOWN_MODELS = 4096
_MAX_NAME_LENGTH = 256
_MAX_MODELS = 64


class Reservation:
    """One request's place at a provider; `release` gives it back, once."""

    def __init__(self, provider: Provider) -> None:
        self.provider = provider
        self._held = True
        provider.in_flight += 1

    def release(self) -> None:
        if self._held:
            self._held = False
            self.provider.in_flight -= 1


class Registry:
    def __init__(
        self, limits: Limits, *, max_providers: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = limits
        self._max_providers = max_providers
        self._clock = clock
        self._providers: dict[ProviderId, Provider] = {}
        self._known: dict[ModelName, None] = {}
        self._choices = 0

    @property
    def providers(self) -> list[Provider]:
        """All that are connected, in the order in which they came."""
        return list(self._providers.values())

    def add(self, hello: Hello) -> Provider:
        """Takes a provider in. Raises ProtocolError or Overloaded."""
        if len(self._providers) >= self._max_providers:
            raise Overloaded(f"{self._max_providers} providers are connected, which is the limit")
        _check_hello(hello)
        provider = Provider(
            id=ProviderId(f"prov-{secrets.token_hex(8)}"),
            name=hello.name,
            software=hello.software,
            hardware=hello.hardware,
            models={model.name: model for model in hello.models},
            last_heard=self._clock(),
        )
        self._providers[provider.id] = provider
        return provider

    def remove(self, provider: Provider) -> None:
        self._providers.pop(provider.id, None)

    def heard(self, provider: Provider) -> None:
        provider.last_heard = self._clock()

    def heartbeat(self, provider: Provider, load: Heartbeat) -> None:
        provider.load = load
        provider.role = read_role(load.cluster_role)
        for name in provider.models:
            if name not in self._known and len(self._known) < _MAX_KNOWN_MODELS:
                self._known[name] = None

    def silent_for_s(self, provider: Provider) -> float:
        return self._clock() - provider.last_heard

    def models(self) -> dict[ModelName, tuple[ModelInfo, int]]:
        """Each model that could be reserved now, with how many providers it could be on."""
        found: dict[ModelName, tuple[ModelInfo, int]] = {}
        for provider in self._providers.values():
            for name, info in provider.models.items():
                if self._is_eligible(provider, name):
                    first, count = found.get(name, (info, 0))
                    found[name] = (first, count + 1)
        return found

    def reserve_provider(self, model: ModelName) -> Reservation:
        """A place at the best provider that may get a request for `model`.

        Raises ModelNotFound (404) when nobody is known to serve it, Overloaded (429) when all who
        could are full, NoProviderAvailable (503) when those who serve it cannot now.
        """
        candidates = [p for p in self._providers.values() if self._is_eligible(p, model)]
        if not candidates:
            raise self._refusal(model)
        self._choices += 1
        chosen = choose(candidates)
        chosen.last_chosen = self._choices
        return Reservation(chosen)

    def _is_eligible(self, provider: Provider, model: ModelName) -> bool:
        return isinstance(self._ask(provider, model), Eligible)

    def _ask(self, provider: Provider, model: ModelName) -> Eligible | Reason:
        answer = eligibility(provider, model, now=self._clock(), limits=self._limits)
        return answer if isinstance(answer, Eligible) else answer.reason

    def _refusal(self, model: ModelName) -> ModelNotFound | Overloaded | NoProviderAvailable:
        reasons = set(self._reasons(model))
        if Reason.FULL in reasons:
            return Overloaded(f"every provider of the model `{model}` is busy: retry in a moment")
        if reasons or model in self._known:
            why = "; ".join(sorted(reasons)) or "its last provider has gone"
            return NoProviderAvailable(f"nobody can serve the model `{model}` now: {why}")
        return ModelNotFound(
            f"the model `{model}` does not exist: GET /v1/models lists those that do",
            param="model",
        )

    def _reasons(self, model: ModelName) -> Iterator[Reason]:
        for provider in self._providers.values():
            answer = self._ask(provider, model)
            if isinstance(answer, Reason) and answer is not Reason.OTHER_MODELS:
                yield answer


def _check_hello(hello: Hello) -> None:
    names = [model.name for model in hello.models]
    if not names or len(names) > _MAX_MODELS or len(set(names)) != len(names):
        raise ProtocolError(f"hello.models must name 1 to {_MAX_MODELS} different models")
    for text in (hello.name, hello.software, *names):
        if not 0 < len(text) <= _MAX_NAME_LENGTH:
            raise ProtocolError(f"names in a hello have 1 to {_MAX_NAME_LENGTH} characters")
