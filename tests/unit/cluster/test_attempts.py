"""A refused plan is tried again when something has changed, or seldom."""

from __future__ import annotations

import pytest
from tests.support.members import hello, members

from tandem.cluster.attempts import Attempts

GB = 1_000_000_000
PAIR = members(hello(memory_bytes=16 * GB), hello(memory_bytes=8 * GB))


def test_a_first_attempt_waits_for_nothing() -> None:
    assert Attempts().delay_s(PAIR, 0.0) == 0.0


def test_the_same_machines_wait_longer_after_each_refusal() -> None:
    attempts, now, delays = Attempts(), 0.0, []
    for _ in range(8):
        attempts.refused(PAIR, now)
        delays.append(attempts.delay_s(PAIR, now))
        now += delays[-1]
        assert attempts.delay_s(PAIR, now) == 0.0
    assert delays == [30, 60, 120, 240, 480, 600, 600, 600]


@pytest.mark.parametrize(
    "other",
    [
        hello(memory_bytes=8 * GB, incarnation="restarted"),
        hello(memory_bytes=10 * GB),
        hello(memory_bytes=6 * GB),
    ],
)
def test_what_has_changed_is_tried_at_once(other: object) -> None:
    attempts = Attempts()
    attempts.refused(PAIR, 0.0)
    attempts.refused(PAIR, 30.0)
    now = members(PAIR[0].hello, other)  # type: ignore[arg-type]
    assert attempts.delay_s(now, 31.0) == 0.0
    attempts.refused(now, 31.0)
    assert attempts.delay_s(now, 31.0) == 30.0


def test_another_machine_in_ones_place_is_a_change() -> None:
    attempts = Attempts()
    attempts.refused(PAIR, 0.0)
    assert attempts.delay_s(PAIR[:1], 1.0) == 0.0


def test_a_little_less_memory_changes_nothing() -> None:
    attempts = Attempts()
    attempts.refused(PAIR, 0.0)
    now = members(PAIR[0].hello, hello(memory_bytes=int(7.5 * GB)))
    assert attempts.delay_s(now, 10.0) == 20.0


def test_after_a_session_nothing_is_held_against_anybody() -> None:
    attempts = Attempts()
    attempts.refused(PAIR, 0.0)
    attempts.succeeded()
    assert attempts.delay_s(PAIR, 1.0) == 0.0
