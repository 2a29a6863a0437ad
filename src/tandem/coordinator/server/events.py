"""What strangers do to connections: each is counted, and few are logged.

Anybody can cause these as often as they like, so the log has one line of a kind in ten seconds,
with how often it has happened since the last.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

_LOG_INTERVAL_S = 10.0


class Events:
    def __init__(
        self,
        count: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`count` is told the name of each."""
        self._count = count
        self._clock = clock
        self._unsaid: Counter[str] = Counter()
        self._said_at: dict[str, float] = {}

    def happened(self, event: str) -> None:
        """`event` is one of a few names: `header_too_large`, `stranger_shed`, ..."""
        self._count(event)
        self._unsaid[event] += 1
        now = self._clock()
        if now - self._said_at.get(event, -_LOG_INTERVAL_S) >= _LOG_INTERVAL_S:
            self._said_at[event] = now
            log.warning(event, times=self._unsaid.pop(event))
