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


def test_a_budget_that_is_not_enough_for_all_lets_a_request_begin_with_what_is_left() -> None:
    limiter, mine = Limiter({}, Clock()), key(KeyLimits(budget_tokens=100))
    lease = limiter.admit(mine, 500, least=20)
    assert (lease.held, lease.left) == (100, 100)
    with pytest.raises(BudgetExhausted, match="0 are left"):
        limiter.admit(mine, 500, least=20)
    assert lease.take(100)
    assert not lease.take(1)
    limiter.settle(lease, 100)
    with pytest.raises(BudgetExhausted):
        limiter.admit(mine, 1, least=1)


def test_what_a_request_takes_beyond_its_estimate_nobody_else_gets() -> None:
    limiter, mine = Limiter({}, Clock()), key(KeyLimits(budget_tokens=100))
    first, second = limiter.admit(mine, 10), limiter.admit(mine, 10)
    assert first.left == 90
    assert first.take(85)
    assert second.left == 15
    assert not second.take(16)
    assert second.take(15)
    assert not first.take(1)
    limiter.settle(first, 85)
    limiter.settle(second, 15)
    assert limiter.admit(key(KeyLimits(budget_tokens=101)), 1).left == 1


def test_what_a_key_has_used_is_known_however_many_others_come() -> None:
    limiter = Limiter({}, Clock())
    mine = key(KeyLimits(budget_tokens=100, requests_per_minute=1))
    limiter.settle(limiter.admit(mine, 100), 100)
    for number in range(2, 10_000):
        limiter.settle(limiter.admit(key(KeyLimits(), number), 1), 1)
    with pytest.raises(RateLimited):
        limiter.admit(mine, 1)
    with pytest.raises(BudgetExhausted):
        limiter.admit(key(KeyLimits(budget_tokens=100)), 1)


def test_what_a_minute_has_refilled_is_not_given_back_once_more() -> None:
    clock = Clock()
    limiter, mine = Limiter({}, clock), key(KeyLimits(tokens_per_minute=1000))
    idle, busy = limiter.admit(mine, 500), limiter.admit(mine, 1)
    clock.now = 60.0
    limiter.settle(limiter.admit(mine, 0), 0)
    limiter.settle(idle, 0)
    limiter.settle(busy, 1001)
    with pytest.raises(RateLimited):
        limiter.admit(mine, 1)


def test_nobody_gets_tokens_back_that_were_used() -> None:
    limiter, mine = Limiter({}, Clock()), key(KeyLimits(budget_tokens=100))
    with pytest.raises(AssertionError):
        limiter.settle(limiter.admit(mine, 10), -1)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["admit", "take", "end"]), st.integers(0, 90), st.integers(0, 9)),
        max_size=80,
    )
)
def test_a_budget_is_never_overdrawn(steps: list[tuple[str, int, int]]) -> None:
    """Whatever requests that run at once take, and whatever was estimated."""
    limiter, mine = Limiter({}, Clock()), key(KeyLimits(budget_tokens=200))
    running: list[tuple[Lease, int]] = []
    spent = 0
    for what, tokens, which in steps:
        if what == "admit":
            try:
                running.append((limiter.admit(mine, tokens, least=1), 0))
            except BudgetExhausted:
                assert sum(lease.held for lease, _ in running) + spent == 200
        elif what == "take" and running:
            lease, taken = running[which % len(running)]
            others = spent + sum(other.held for other, _ in running if other is not lease)
            assert lease.take(tokens) == (others + taken + tokens <= 200)
            if others + taken + tokens <= 200:
                running[which % len(running)] = (lease, taken + tokens)
        elif what == "end" and running:
            lease, taken = running.pop(which % len(running))
            limiter.settle(lease, taken)
            spent += taken
        assert spent + sum(taken for _, taken in running) <= 200
        assert spent + sum(lease.held for lease, _ in running) <= 200
