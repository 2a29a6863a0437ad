"""Stops of the event loop: noticed, remembered for a minute, and told where."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import MutableMapping
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tandem.runtime import watchdog
from tandem.runtime.watchdog import LoopWatch


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 30)), max_size=30))
def test_the_longest_stop_of_the_last_minute_is_known(stops: list[tuple[float, float]]) -> None:
    clock, told = Clock(), list[float]()
    watch = LoopWatch(told.append, clock)
    ended: list[tuple[float, float]] = []
    for late_s, calm_s in stops:
        watch.expect(0.05)
        clock.now += 0.05 + late_s
        late = watch.stands_for_s
        watch.woke()
        if late > watchdog.STOP_S:
            ended.append((clock.now, late))
        clock.now += calm_s
        recent = [late for at, late in ended if at >= clock.now - 60.0]
        assert watch.longest_s == max(recent, default=0.0)
    assert told == [late for _, late in ended]


def test_a_long_stop_is_logged_once() -> None:
    clock = Clock()
    watch = LoopWatch(clock=clock)
    watch.expect(0.05)
    logged = []
    for _ in range(20):
        clock.now += 0.25
        logged.append(watch.newly_stuck())
    assert logged.count(True) == 1
    watch.woke()
    assert not watch.newly_stuck()
    watch.expect(0.05)
    clock.now += 2.0
    assert watch.newly_stuck()


def test_the_log_says_where_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_LOGGED_AFTER_S", 0.0)
    monkeypatch.setattr(watchdog, "_WATCH_S", 0.001)
    logged = threading.Event()

    def stand_still() -> None:
        assert logged.wait(60)

    lines: list[dict[str, Any]] = []
    shown: list[str] = []

    def keep(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        lines.append(dict(event))
        shown.append(structlog.dev.ConsoleRenderer(colors=False)(None, "warning", event))
        logged.set()
        raise structlog.DropEvent

    async def main() -> None:
        watch = LoopWatch()
        running = asyncio.create_task(watch.run())
        await asyncio.sleep(0)
        stand_still()
        running.cancel()

    with capture_logs():
        structlog.configure(processors=[keep])
        asyncio.run(main())
    [first, *_] = lines
    assert first["event"] == "event_loop_stands_still"
    assert any(frame.endswith(" stand_still") for frame in first["frames"])
    assert "stand_still" in shown[0]
