"""Whether a request is what its providers die of. Pure rules: `RequestRun` applies them.

A request is *struck* when a provider is lost on which it was being begun: it had no token there.
From then on it is begun *alone*, where nothing else is being begun, so that the next strike is
against nobody else. After two it is *held* for a while, as a control: when providers die without
it, then or shortly before, it was not it, and what was against it is forgotten; when they live, it
is given up. So whoever kills every provider every second, in a test or with a faulty power supply,
costs no request its life, and a request of death takes two providers and no third.

Steps that fail and engines that hang leave the provider there, and have other causes more often.
It takes ten of them. A token clears a request.
"""

from __future__ import annotations

from enum import Enum

from tandem.coordinator.fleet.losses import Loss, Losses

#: What a strike weighs, how much is enough, and what nobody comes to by chance: it bounds what two
#: requests of death do for each other.
_GONE, _FAILED = 5, 1
_ENOUGH, _TOO_MUCH = 10, 40
#: Losses so long before the first strike show too that something else is wrong.
_BEFORE_S = 30.0


class Verdict(Enum):
    GOES_ON = "nothing is known against it"
    HELD = "it waits, to see whether providers live without it"
    GUILTY = "providers die of it"


class Suspicion:
    """One request's. Times are monotonic seconds; `control_s` is how long it is held."""

    def __init__(self, losses: Losses, control_s: float) -> None:
        self._losses = losses
        self._control_s = control_s
        #: Those that count, and all since the last token.
        self._strikes: list[Loss] = []
        self._all: list[Loss] = []

    @property
    def providers(self) -> list[str]:
        """Where it was struck."""
        return [str(loss.provider) for loss in self._strikes]

    @property
    def alone(self) -> bool:
        """Whether it has to be begun where nothing else is being begun."""
        return bool(self._counted())

    def strike(self, loss: Loss | None) -> None:
        if loss is not None and loss not in self._all:
            self._all.append(loss)
            self._strikes.append(loss)

    def clear(self) -> None:
        """A token has come."""
        self._strikes.clear()
        self._all.clear()

    def verdict(self, now: float, sound_for_s: float) -> Verdict:
        """`sound_for_s`: how long somebody who could have the request has been ready for."""
        strikes = self._counted()
        if _weight(self._all) >= _TOO_MUCH:
            return Verdict.GUILTY
        if _weight(strikes) < _ENOUGH or strikes[-1].beginning > 1:
            return Verdict.GOES_ON
        others = self._losses.since(strikes[0].at - _BEFORE_S)
        if any(loss not in self._all for loss in others):
            strikes.clear()
            return Verdict.GOES_ON
        if min(now - strikes[-1].at, sound_for_s) >= self._control_s:
            return Verdict.GUILTY
        return Verdict.HELD

    def _counted(self) -> list[Loss]:
        """Those that were not of several providers at once."""
        if self._strikes:
            self._strikes = [
                loss for loss in self._strikes if not self._losses.coincided(loss, self._all)
            ]
        return self._strikes


def _weight(strikes: list[Loss]) -> int:
    return sum(_GONE if loss.fatal else _FAILED for loss in strikes)
