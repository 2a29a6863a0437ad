"""What strangers do to connections: each is counted, and few are logged.

Anybody can cause these as often as they like, so the log has few lines of a kind in ten seconds;
each says how often it has happened since the one before.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog

from tandem.runtime import FewLines

log = structlog.get_logger(__name__)


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
        self._few = FewLines(lines, clock)

    def happened(self, event: str, **details: object) -> None:
        """`event` is one of a few names: `header_too_large`, `stranger_shed`, ..."""
        self._count(event)
        if times := self._few.happened(event):
            log.warning(event, **details, times=times)
