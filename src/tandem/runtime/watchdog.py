"""How long the event loop stood still, and where.

While it does, nobody is answered. A task that should wake twenty times a second notices how late
it is; a thread beside it, which the loop cannot stop, logs what the loop's thread is doing.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger(__name__)

#: A loop that wakes later than this has stopped; below are a busy machine's usual delays.
STOP_S = 0.1
_TICK_S = 0.05
#: From here on the log says where.
_LOGGED_AFTER_S = 1.0
_WATCH_S = 0.25
_REMEMBERED_S = 60.0
_MAX_FRAMES = 24


class LoopWatch:
    """`on_stop` is told the length of each stop, in seconds, when it is over."""

    def __init__(
        self,
        on_stop: Callable[[float], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._on_stop = on_stop
        self._clock = clock
        self._due: float | None = None
        #: When each ended, with its length: falling lengths, so that the first is the longest.
        self._stops: deque[tuple[float, float]] = deque()
        self._logged = False

    @property
    def longest_s(self) -> float:
        """The longest stop that ended within the last minute; 0 when there was none."""
        while self._stops and self._stops[0][0] < self._clock() - _REMEMBERED_S:
            self._stops.popleft()
        return self._stops[0][1] if self._stops else 0.0

    @property
    def stands_for_s(self) -> float:
        """How long it has been standing still, at this moment."""
        return 0.0 if self._due is None else max(0.0, self._clock() - self._due)

    def expect(self, delay_s: float) -> None:
        """The loop is to wake after `delay_s`."""
        self._due = self._clock() + delay_s

    def woke(self) -> None:
        late_s = self.stands_for_s
        self._due = None
        if late_s <= STOP_S:
            return
        while self._stops and self._stops[-1][1] <= late_s:
            self._stops.pop()
        self._stops.append((self._clock(), late_s))
        self._on_stop(late_s)

    def newly_stuck(self) -> bool:
        """Whether a stop has become one to be logged; once for each."""
        stuck = self.stands_for_s > _LOGGED_AFTER_S
        newly = stuck and not self._logged
        self._logged = stuck
        return newly

    async def run(self) -> None:
        """Watches the loop that it runs on, until it is cancelled."""
        with self._watched_from_beside():
            while True:
                self.expect(_TICK_S)
                await asyncio.sleep(_TICK_S)
                self.woke()

    @contextmanager
    def _watched_from_beside(self) -> Iterator[None]:
        thread_id, over = threading.get_ident(), threading.Event()

        def watch() -> None:
            while not over.wait(_WATCH_S):
                if self.newly_stuck():
                    seconds, frames = round(self.stands_for_s, 1), _stack_of(thread_id)
                    log.warning("event_loop_stands_still", seconds=seconds, frames=frames)

        thread = threading.Thread(target=watch, name="loop-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _stack_of(thread_id: int) -> list[str]:
    """File, line and function of each frame, the innermost last; no values."""
    frame = sys._current_frames().get(thread_id)  # noqa: SLF001 - there is no other way
    if frame is None:
        return []
    summary = traceback.StackSummary.extract(
        traceback.walk_stack(frame), limit=_MAX_FRAMES, lookup_lines=False
    )
    return [f"{line.filename}:{line.lineno} {line.name}" for line in reversed(summary)]
