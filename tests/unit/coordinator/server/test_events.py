"""Strangers' deeds in the log: counted each, told now and then."""

from __future__ import annotations

from structlog.testing import capture_logs

from tandem.coordinator.server.events import Events


def test_as_many_lines_as_were_asked_for_have_their_details() -> None:
    now = [0.0]
    events = Events(clock=lambda: now[0], lines=3)
    with capture_logs() as logged:
        for number in range(10):
            now[0] += 0.9
            events.happened("provider_refused", reason=number)
        now[0] += 2.0
        events.happened("provider_refused", reason="later")
    found = [(line["reason"], line["times"]) for line in logged]
    assert found == [(0, 1), (1, 1), (2, 1), ("later", 8)]


def test_each_is_counted_and_few_are_logged() -> None:
    now, counted = [0.0], list[str]()
    events = Events(counted.append, lambda: now[0])
    with capture_logs() as logged:
        for _ in range(1000):
            events.happened("stranger_shed")
        events.happened("header_too_large")
        now[0] = 10.0
        events.happened("stranger_shed")
    assert counted.count("stranger_shed") == 1001
    assert [(line["event"], line["times"]) for line in logged] == [
        ("stranger_shed", 1),
        ("header_too_large", 1),
        ("stranger_shed", 1000),
    ]
