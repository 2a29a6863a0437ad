"""Whether a request is what its providers die of. Pure rules: `RequestRun` applies them.

A request is *struck* when a provider is lost on which it was being begun: it had no token there.
From then on it is begun *alone*, where nothing else is being begun, and after a provider's death
only once somebody has lived for a while. What a strike says depends on what the provider was like:
one that had been up for an hour and died a second after the request came did so by chance in one of
3600 cases, one that comes and goes every few seconds, in most. These *odds* multiply. When they are
long enough, of two strikes or more, the request is *held* as a control: when providers die without
it, then or shortly before, it was not it, and what was against it is forgotten; when they live, it
is given up. So whoever kills every provider every second, in a test or with a faulty power supply,
costs no request its life, machines that crash by themselves neither, and a request of death takes
two providers that were up for minutes.

Steps that fail and engines that hang leave the provider there, and have other causes more often.
It takes ten of them. A token clears a request.
"""

from __future__ import annotations

import math
from enum import Enum

import msgspec

from tandem.coordinator.fleet.losses import Loss, Losses

#: Whoever dies within this long of a request's coming might have done so at once.
_AT_LEAST_S = 1.0
#: What a loss that is not fatal multiplies the odds by: ten of them are enough.
_FAILED_ODDS = 2.6
#: Losses of either kind, of who had lived for a while, that nobody comes to by chance: they bound
#: what two requests of death do for each other.
_GONE, _FAILED, _TOO_MUCH = 5, 1, 40
#: Losses so long before the first strike show too that something else is wrong.
_BEFORE_S = 30.0


class Verdict(Enum):
    GOES_ON = "nothing, or not enough, is known against it"
    HELD = "it waits, to see whether providers live without it"
    GUILTY = "providers die of it"


class Strike(msgspec.Struct, frozen=True):
    """A loss with which a request met that had been there for `took_s` without a token."""

    loss: Loss
    took_s: float

    @property
    def odds(self) -> float:
        """One to how many it is that the provider was lost by chance just then.

        Any of those that were being begun there may be what it was lost of.
        """
        if not self.loss.fatal:
            return _FAILED_ODDS
        shared = max(self.took_s, _AT_LEAST_S) * max(1, self.loss.beginning)
        return max(1.0, self.loss.lived_s / shared)


class Suspicion:
    """One request's. Times are monotonic seconds.

    `control_s` is how long providers have to live without it, and `enough` the odds from which on
    it is held and given up.
    """

    def __init__(self, losses: Losses, *, control_s: float, enough: float) -> None:
        self._losses = losses
        self._control_s = control_s
        self._enough = enough
        #: Those that count, and the losses of all since the last token.
        self._strikes: list[Strike] = []
        self._all: list[Loss] = []

    @property
    def providers(self) -> list[str]:
        """Where it was struck."""
        return [str(strike.loss.provider) for strike in self._strikes]

    @property
    def alone(self) -> bool:
        """Whether it has to be begun where nothing else is being begun."""
        return bool(self._counted())

    def strike(self, loss: Loss | None, *, since: float) -> None:
        """It had been there `since` then."""
        if loss is not None and loss not in self._all:
            self._all.append(loss)
            self._strikes.append(Strike(loss, loss.at - since))

    def clear(self) -> None:
        """A token has come."""
        self._strikes.clear()
        self._all.clear()

    def verdict(self, now: float, sound_for_s: float) -> Verdict:
        """`sound_for_s`: how long somebody who could have the request has been ready for."""
        strikes = self._counted()
        settled = [loss for loss in self._all if loss.lived_s >= self._control_s]
        if sum(_GONE if loss.fatal else _FAILED for loss in settled) >= _TOO_MUCH:
            return Verdict.GUILTY
        if not strikes:
            return Verdict.GOES_ON
        if self._others_since(strikes[0].loss.at - _BEFORE_S) and len(strikes) > 1:
            strikes.clear()
            return Verdict.GOES_ON
        last = strikes[-1].loss
        odds = math.prod(strike.odds for strike in strikes)
        if len(strikes) > 1 and odds >= self._enough:
            lived_s = min(now - last.at, sound_for_s)
            return Verdict.GUILTY if lived_s >= self._control_s else Verdict.HELD
        is_fresh = sound_for_s < self._control_s and last.fatal
        return Verdict.HELD if is_fresh and not self._others_since(last.at) else Verdict.GOES_ON

    def _others_since(self, at: float) -> bool:
        """Whether anybody was lost without it."""
        return any(loss not in self._all for loss in self._losses.since(at))

    def _counted(self) -> list[Strike]:
        """Those that were not of several providers at once."""
        if self._strikes:
            self._strikes = [
                strike
                for strike in self._strikes
                if not self._losses.coincided(strike.loss, self._all)
            ]
        return self._strikes
