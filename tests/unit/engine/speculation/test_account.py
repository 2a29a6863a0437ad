"""What guesses may cost, all told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.speculation.account import Account

STEPS = st.tuples(st.floats(0.0, 16.0), st.floats(0.0, 16.0))


@given(booked=st.lists(STEPS, max_size=200))
def test_what_is_lost_is_a_hundredth_and_what_there_was_to_try_with(
    booked: list[tuple[float, float]],
) -> None:
    account, lost = Account(), 0.0
    for step in booked:
        won, cost = (1.0, 1.0) if account.is_overdrawn else step
        account.book(won=won, cost=cost)
        lost += cost - won
    dearest = 16.0
    assert lost <= 32.0 + dearest + 0.01 * len(booked) + 1e-6


def test_what_was_won_long_ago_is_no_licence() -> None:
    account = Account()
    for _ in range(1000):
        account.book(won=4.0, cost=1.0)
    taken = 0
    while not account.is_overdrawn:
        account.book(won=1.0, cost=2.0)
        taken += 1
    assert taken < 150


def test_an_overdrawn_account_recovers_by_steps_without_guesses() -> None:
    account = Account()
    account.book(won=0.0, cost=33.0)
    assert account.is_overdrawn
    for _ in range(110):
        account.book(won=1.0, cost=1.0)
    assert not account.is_overdrawn
