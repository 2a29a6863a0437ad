"""One request's reservation at one provider, and what the coordinator learns from it."""

from __future__ import annotations

from collections.abc import Callable

from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing.demand import Demand


class Reservation:
    """Counts against the provider until `release`, which counts once.

    Made by `Registry.reserve` and `reserve_at` alone.
    """

    def __init__(
        self,
        provider: Provider,
        demand: Demand,
        clock: Callable[[], float],
        on_release: Callable[[Provider], None],
    ) -> None:
        self.provider = provider
        self._demand = demand
        self._clock = clock
        self._on_release = on_release
        self._held = True
        self._ticket = provider.breaker.begin()
        self._made_at = clock()
        self._first_at: float | None = None
        self._ahead = provider.prefilling
        if provider.in_flight == 0:
            provider.moved_at = self._made_at
        provider.in_flight += 1
        provider.sequences += demand.sequences
        provider.tokens += demand.tokens
        provider.prefilling += demand.prompt_tokens

    def saw_first_token(self, prompt_tokens: int) -> None:
        if self._first_at is not None:
            return
        self._first_at = self._clock()
        self.provider.prefilling -= self._demand.prompt_tokens
        self.provider.breaker.succeed(self._ticket)
        taken_s = self._first_at - self._made_at
        speed = self.provider.speed(self._demand.model)
        speed.saw_first_token(self._ahead + prompt_tokens, taken_s)

    def finished(self, tokens: int) -> None:
        """The provider has ended the request well, `tokens` tokens in all."""
        self.provider.breaker.succeed(self._ticket)
        if self._first_at is not None:
            each = tokens / max(1, self._demand.sequences) - 1
            taken_s = self._clock() - self._first_at
            speed = self.provider.speed(self._demand.model)
            speed.saw_decode(each, taken_s, self.provider.sequences)

    def failed(self) -> None:
        """The provider is to blame for the request's end."""
        self.provider.breaker.fault(self._ticket, self._clock())

    def release(self) -> None:
        if not self._held:
            return
        self._held = False
        if self._first_at is None:
            self.provider.prefilling -= self._demand.prompt_tokens
        self.provider.in_flight -= 1
        self.provider.sequences -= self._demand.sequences
        self.provider.tokens -= self._demand.tokens
        self.provider.breaker.forget(self._ticket)
        self._on_release(self.provider)
