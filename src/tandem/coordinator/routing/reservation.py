"""One request's reservation at one provider, and what the coordinator learns from it."""

from __future__ import annotations

from collections.abc import Callable

from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.places import tokens_at
from tandem.coordinator.routing.shares import Charge, Share

#: How long others wait for one that is begun alone. Then they are begun beside it.
_ALONE_S = 10.0


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
        self._charge: Charge | None = None
        #: What it has used: the prompt as estimated, until it is known.
        self._size = tokens_at(provider, demand)
        self._prompt_tokens = min(demand.prompt_tokens, self._size)
        self._tokens = 0
        self._ticket = provider.breaker.begin()
        self._made_at = clock()
        self._first_at: float | None = None
        self._ahead = provider.prefilling
        if provider.in_flight == 0:
            provider.moved_at = self._made_at
        provider.in_flight += 1
        provider.beginning += 1
        if demand.alone:
            provider.alone_until = self._made_at + _ALONE_S
        provider.sequences += demand.sequences
        provider.hold_for(demand.key, demand.sequences)
        provider.tokens += self._size
        provider.prefilling += demand.prompt_tokens

    @property
    def sequences(self) -> int:
        """How many of the request's it is for."""
        return self._demand.sequences

    def charge_to(self, share: Share) -> None:
        """Lets a key pay for it: what is estimated now, and what it used when it is released."""
        self._charge = share.charge(self._size)

    def saw_tokens(self, tokens: int, *, prompt_tokens: int) -> None:
        """So many more of its answer have come; `prompt_tokens` is what its prompts have."""
        self.saw_first_token(prompt_tokens)
        self._tokens += tokens
        if self._charge is not None:
            self._charge.at_least(self._prompt_tokens + self._tokens)

    def saw_first_token(self, prompt_tokens: int) -> None:
        if self._first_at is not None:
            return
        self._prompt_tokens = prompt_tokens
        self._first_at = self._clock()
        self._has_begun()
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

    def refused(self) -> None:
        """The provider has not taken the request: the prompt was not computed."""
        self._prompt_tokens = 0

    def failed(self) -> None:
        """The provider is to blame for the request's end: the prompt is charged where it goes."""
        self._prompt_tokens = 0
        self.provider.breaker.fault(self._ticket, self._clock())

    def release(self) -> None:
        if not self._held:
            return
        self._held = False
        if self._first_at is None:
            self._has_begun()
        self.provider.in_flight -= 1
        self.provider.sequences -= self._demand.sequences
        self.provider.hold_for(self._demand.key, -self._demand.sequences)
        self.provider.tokens -= self._size
        self.provider.breaker.forget(self._ticket)
        if self._charge is not None:
            self._charge.settle(self._prompt_tokens + self._tokens)
        self._on_release(self.provider)

    def _has_begun(self) -> None:
        self.provider.prefilling -= self._demand.prompt_tokens
        self.provider.beginning -= 1
        if self._demand.alone:
            self.provider.alone_until = 0.0
