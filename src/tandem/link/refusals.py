"""The log of connections that were turned away: all are counted, few are written down.

A stranger decides how often it knocks, but not how fast the log grows.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)

#: A line for the same sender and reason comes at most this often.
_REPEAT_S = 60.0
#: So many kinds of lines within that time; the others are counted in the next one.
_MAX_KINDS = 32


class Refusals:
    """`count` has all of them, from the start."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.count = 0
        self._clock = clock
        self._logged: dict[tuple[str, str], float] = {}
        self._unlogged = 0

    def add(self, host: str, reason: str) -> None:
        self.count += 1
        now = self._clock()
        while self._logged and now - next(iter(self._logged.values())) >= _REPEAT_S:
            del self._logged[next(iter(self._logged))]
        if (host, reason) in self._logged or len(self._logged) >= _MAX_KINDS:
            self._unlogged += 1
            return
        self._logged[host, reason] = now
        log.warning("connection_refused", address=host, reason=reason, unlogged=self._unlogged)
        self._unlogged = 0
