"""Waiting before the next attempt."""

from __future__ import annotations

from random import Random

from tandem.runtime import Backoff


def test_delays_grow_to_the_cap_with_jitter_and_start_over() -> None:
    backoff = Backoff(base_s=1.0, cap_s=8.0, floor_s=0.1, random=Random(1))
    rounds = [backoff.next_delay_s() for _ in range(12)]
    for attempt, delay in enumerate(rounds):
        assert 0.1 <= delay <= min(8.0, 2.0**attempt)
    assert max(rounds) > 4.0
    assert len(set(rounds)) == len(rounds)
    backoff.reset()
    assert backoff.next_delay_s() <= 1.0
