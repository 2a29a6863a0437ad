"""What strangers do to connections: each is counted, and few are logged.

Anybody can cause these as often as they like, so the log has few lines of a kind in ten seconds;
each says how often it has happened since the one before.
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
        *,
        lines: int = 1,
    ) -> None:
        """`count` is told the name of each; `lines` of a kind are logged in ten seconds."""
        self._count = count
        self._clock = clock
        self._lines = lines
        self._unsaid: Counter[str] = Counter()
        #: When a kind's ten seconds began, and its lines since then.
        self._said: dict[str, tuple[float, int]] = {}

    def happened(self, event: str, **details: object) -> None:
        """`event` is one of a few names: `header_too_large`, `stranger_shed`, ..."""
        self._count(event)
        self._unsaid[event] += 1
        now = self._clock()
        began, lines = self._said.get(event, (now, 0))
        if now - began >= _LOG_INTERVAL_S:
            began, lines = now, 0
        if lines < self._lines:
            self._said[event] = began, lines + 1
            log.warning(event, **details, times=self._unsaid.pop(event))
