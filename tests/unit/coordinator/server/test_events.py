"""Strangers' deeds in the log: counted each, told now and then."""

from __future__ import annotations

from structlog.testing import capture_logs

from tandem.coordinator.server.events import Events


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
