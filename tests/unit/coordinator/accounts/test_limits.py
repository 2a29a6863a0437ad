"""What one key may use, also when its requests run at once."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.coordinator.accounts.limits import Lease, Limiter
from tandem.coordinator.accounts.records import KeyLimits, KeyRecord
from tandem.errors import BudgetExhausted, RateLimited


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def key(limits: KeyLimits, number: int = 1) -> KeyRecord:
    return KeyRecord(number, "k", "sk", datetime.now(UTC), None, limits=limits)


def test_requests_a_minute_are_a_budget_that_refills() -> None:
    clock = Clock()
    limiter, mine = Limiter({}, clock), key(KeyLimits(requests_per_minute=6))
    for _ in range(6):
        limiter.settle(limiter.admit(mine, 1), 1)
    with pytest.raises(RateLimited) as refused:
        limiter.admit(mine, 1)
    assert refused.value.retry_after_s == 10
    clock.now = 10.0
    limiter.admit(mine, 1)
    other = key(KeyLimits(requests_per_minute=6), 2)
    limiter.admit(other, 1)


def test_tokens_a_minute_count_what_was_used_in_the_end() -> None:
    clock = Clock()
    limiter, mine = Limiter({}, clock), key(KeyLimits(tokens_per_minute=600))
    lease = limiter.admit(mine, 500)
    with pytest.raises(RateLimited):
        limiter.admit(mine, 200)
    limiter.settle(lease, 100)
    second = limiter.admit(mine, 200)
    limiter.settle(second, 600)
    with pytest.raises(RateLimited) as refused:
        limiter.admit(mine, 1)
    assert refused.value.retry_after_s is not None
    clock.now = float(refused.value.retry_after_s)
    limiter.admit(mine, 1)


def test_a_request_larger_than_a_minute_goes_when_nothing_else_does() -> None:
    limiter = Limiter({}, Clock())
    limiter.admit(key(KeyLimits(tokens_per_minute=100)), 5000)


def test_requests_at_once() -> None:
    limiter, mine = Limiter({}, Clock()), key(KeyLimits(concurrent=2))
    leases = [limiter.admit(mine, 1) for _ in range(2)]
    with pytest.raises(RateLimited):
        limiter.admit(mine, 1)
    limiter.settle(leases[0], 1)
    limiter.admit(mine, 1)


def test_what_the_ledger_knows_is_spent() -> None:
    limiter = Limiter({1: 90}, Clock())
    mine = key(KeyLimits(budget_tokens=100))
    limiter.admit(mine, 10)
    with pytest.raises(BudgetExhausted):
        limiter.admit(mine, 1)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=60))
def test_a_budget_is_never_overdrawn(steps: list[tuple[int, bool]]) -> None:
    """As long as no request takes more than it was admitted with."""
    limiter, mine = Limiter({}, Clock()), key(KeyLimits(budget_tokens=200))
    held: list[Lease] = []
    spent = 0
    for tokens, admit in steps:
        if admit:
            try:
                held.append(limiter.admit(mine, tokens))
            except BudgetExhausted:
                assert spent + sum(lease.tokens for lease in held) + tokens > 200
        elif held:
            lease = held.pop(0)
            limiter.settle(lease, lease.tokens // 2)
            spent += lease.tokens // 2
        assert spent + sum(lease.tokens for lease in held) <= 200
