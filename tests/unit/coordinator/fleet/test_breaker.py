"""When a provider is set aside, and how it comes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.coordinator.fleet import breaker as module
from tandem.coordinator.fleet.breaker import Breaker, BreakerMemory


def tripped(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    breaker.trip(now)
    return breaker


def test_the_third_fault_in_a_row_opens_it() -> None:
    breaker = Breaker()
    for _ in range(2):
        breaker.fault(breaker.begin(), 0.0)
        assert breaker.admits(0.0)
    breaker.fault(breaker.begin(), 0.0)
    assert not breaker.admits(0.0)


def test_a_success_between_faults_forgets_them() -> None:
    breaker = Breaker()
    for _ in range(5):
        breaker.fault(breaker.begin(), 0.0)
        breaker.succeed(breaker.begin())
    assert breaker.admits(0.0)


def test_one_probe_at_a_time_after_the_pause() -> None:
    breaker = tripped()
    assert not breaker.admits(0.9)
    assert breaker.admits(1.1)
    probe = breaker.begin()
    assert not breaker.admits(1.2)
    breaker.succeed(probe)
    assert breaker.admits(1.2)
    assert not breaker.is_open


def test_a_failed_probe_doubles_the_pause_up_to_a_minute() -> None:
    breaker, now = tripped(), 0.0
    for pause in (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0):
        assert not breaker.admits(now + pause - 0.1)
        now += pause
        assert breaker.admits(now)
        breaker.fault(breaker.begin(), now)


def test_answers_to_requests_from_before_bring_nobody_back() -> None:
    breaker = Breaker()
    old = breaker.begin()
    breaker.trip(0.0)
    breaker.succeed(old)
    assert breaker.is_open


def test_a_probe_that_tells_nothing_makes_room_for_another() -> None:
    breaker = tripped()
    breaker.forget(breaker.begin())
    assert breaker.admits(1.1)


@given(st.lists(st.sampled_from(["begin", "ok", "fault", "forget", "wait"]), max_size=60))
def test_it_can_always_come_back(steps: list[str]) -> None:
    breaker, now, tickets = Breaker(), 0.0, [0]
    for step in steps:
        if step == "begin" and breaker.admits(now):
            tickets.append(breaker.begin())
        elif step == "ok":
            breaker.succeed(tickets[-1])
        elif step == "fault":
            breaker.fault(tickets[-1], now)
        elif step == "forget":
            breaker.forget(tickets[-1])
        elif step == "wait":
            now += 7.0
    breaker.forget(tickets[-1])
    assert breaker.admits(now + 60.1)
    breaker.succeed(breaker.begin())
    assert not breaker.is_open


def test_a_machine_finds_its_breaker_again_and_one_without_a_name_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 2)
    memory = BreakerMemory()
    first = memory.of("n1")
    assert memory.of("n1") is first
    memory.of("n2")
    assert memory.of("n1") is first
    memory.of("n3")  # n2 was away the longest
    assert memory.of("n1") is first
    second = memory.of("n2")
    assert second is memory.of("n2")
    assert memory.of("n3") is not first
