"""What one API key may use: requests and tokens a minute, requests at once, tokens in all.

Checked at admission with an estimate of the tokens, which is held while the request runs and then
replaced by what it took: requests that run at once cannot spend the same tokens twice. A budget is
hard: every token is taken from it before it is delivered, so a key never gets more than it has.
The minute's tokens may go below zero by what one request takes beyond its estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from tandem.coordinator.accounts.records import KeyRecord
from tandem.errors import BudgetExhausted, RateLimited

_MINUTE_S = 60.0


class _Bucket:
    """Refills evenly up to one minute's worth (a token bucket). The level may go below zero.

    Never above that worth: what was taken and is given back late has been refilled meanwhile.
    """

    def __init__(self, now: float) -> None:
        self._filled_at = now
        self._used = 0.0

    def used(self, rate: int, now: float) -> float:
        """How much of the minute's worth is gone."""
        self._used = max(0.0, self._used - (now - self._filled_at) * rate / _MINUTE_S)
        self._filled_at = now
        return self._used

    def take(self, amount: float) -> None:
        self._used = max(0.0, self._used + amount)


class _Account:
    """What one key has under way and behind it."""

    def __init__(self, now: float, spent: int) -> None:
        self.requests = _Bucket(now)
        self.tokens = _Bucket(now)
        self.running = 0
        self.held = 0
        self.spent = spent


class Lease:
    """One admitted request of a key, until `Limiter.settle`."""

    def __init__(self, key: KeyRecord, account: _Account, estimated: int) -> None:
        self.key_id = key.id
        self.estimated = estimated
        self._budget = key.limits.budget_tokens
        self._account = account
        self._used = 0
        #: At least what it has used: what nobody else may have.
        self.held = 0
        self._hold(estimated if self.left is None else min(estimated, self.left))

    @property
    def left(self) -> int | None:
        """What the request may still use; None without a budget."""
        if self._budget is None:
            return None
        others = self._account.spent + self._account.held - self.held
        return max(0, self._budget - others - self._used)

    def take(self, tokens: int) -> bool:
        """Uses so many more; False, and none is used, when the key has not so many left."""
        if self.left is not None and tokens > self.left:
            return False
        self._used += tokens
        self._hold(self._used)
        return True

    def _hold(self, tokens: int) -> None:
        more = max(0, tokens - self.held)
        self.held += more
        self._account.held += more


class Limiter:
    """Forgets no key that it has seen: budgets are for life, and operators make keys."""

    def __init__(self, spent: Mapping[int, int], clock: Callable[[], float]) -> None:
        """`spent` is how many tokens each key has used so far, according to the ledger."""
        self._spent = spent
        self._clock = clock
        self._accounts: dict[int, _Account] = {}

    def admit(self, key: KeyRecord, tokens: int, *, least: int | None = None) -> Lease:
        """Takes `tokens` into account for a request; `least` is what makes sense of it.

        A budget that has so many left, and not all, lets it begin. Raises RateLimited or
        BudgetExhausted.
        """
        now = self._clock()
        account = self._account(key.id, now)
        self._check(key, account, tokens, tokens if least is None else least, now)
        account.requests.take(1)
        account.tokens.take(tokens)
        account.running += 1
        return Lease(key, account, tokens)

    def settle(self, lease: Lease, used: int) -> None:
        """The request has ended, and has taken `used` tokens."""
        assert used >= 0, "nobody gives tokens back"
        account = self._accounts[lease.key_id]
        account.tokens.take(used - lease.estimated)
        account.running -= 1
        account.held -= lease.held
        account.spent += used

    def _account(self, key_id: int, now: float) -> _Account:
        account = self._accounts.get(key_id)
        if account is None:
            account = self._accounts[key_id] = _Account(now, self._spent.get(key_id, 0))
        return account

    def _check(
        self, key: KeyRecord, account: _Account, tokens: int, least: int, now: float
    ) -> None:
        limits = key.limits
        if limits.concurrent is not None and account.running >= limits.concurrent:
            raise RateLimited(
                f"this key has {account.running} requests under way, which is its limit"
            )
        if limits.requests_per_minute is not None:
            rate = limits.requests_per_minute
            _check_rate("requests", rate, account.requests.used(rate, now), 1)
        if limits.tokens_per_minute is not None:
            rate = limits.tokens_per_minute
            _check_rate("tokens", rate, account.tokens.used(rate, now), tokens)
        if limits.budget_tokens is not None:
            left = limits.budget_tokens - account.spent - account.held
            if left < least:
                raise BudgetExhausted(
                    f"this request takes {least} tokens or more, and {max(0, left)} are left of"
                    f" this key's {limits.budget_tokens}: send less, or ask for a larger budget"
                )


def _check_rate(what: str, rate: int, used: float, wanted: int) -> None:
    """One request may always go when nothing is used, however large it is."""
    over = used + wanted - rate
    if over > 0 and used > 0:
        wait_s = math.ceil(min(over, used) * _MINUTE_S / rate)
        raise RateLimited(
            f"this key may use {rate} {what} a minute: retry in {wait_s} s",
            retry_after_s=max(1, wait_s),
        )
