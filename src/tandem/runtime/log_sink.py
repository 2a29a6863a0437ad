"""Where log lines go: a bounded queue, and a thread that writes them. Nobody waits for a log.

A terminal may be stopped, a pipe full or closed, a disk full: lines are then lost, and counted, and
nothing else is. When writing works again a line says how many there were.
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable

_MAX_LINES = 8192
_MAX_BYTES = 8 * 2**20
#: A longer line is cut: a traceback through recursion has thousands of frames.
_MAX_LINE_BYTES = 64 * 2**10


class LogSink:
    """Lines on their way to a descriptor. Thread-safe; `write` never blocks.

    `lost_line` makes the line that says how many were lost.
    """

    def __init__(self, descriptor: int, lost_line: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._lost_line = lost_line
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._lost = 0
        self._writing = False
        #: Whether what was written last has no end.
        self._torn = False
        # Reentrant: a line may be written while another one is, by a finaliser.
        self._changed = threading.Condition(threading.RLock())
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def write(self, line: str) -> None:
        """Takes one line with its end; lost where too many wait already."""
        encoded = line.encode(errors="backslashreplace")
        if len(encoded) > _MAX_LINE_BYTES:
            encoded = encoded[: _MAX_LINE_BYTES - 1] + b"\n"
        with self._changed:
            if len(self._lines) >= _MAX_LINES or self._bytes + len(encoded) > _MAX_BYTES:
                self._lost += 1
                return
            self._lines.append(encoded)
            self._bytes += len(encoded)
            self._changed.notify_all()

    def flush(self) -> None:
        """As files have it. Lines are written as soon as can be; `drain` waits for them."""

    def drain(self, timeout_s: float) -> bool:
        """Waits until everything is written, or lost; whether it was in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._writing, timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: bool(self._lines))
                line = self._lines.popleft()
                self._bytes -= len(line)
                self._writing = True
            written = self._put(line)
            with self._changed:
                self._lost += not written
                lost = self._lost if written else 0
            if lost and self._put(self._lost_line(lost).encode()):
                with self._changed:
                    self._lost -= lost

    def _put(self, line: bytes) -> bool:
        """Writes a line, however long that takes; whether it is there as a whole."""
        rest = b"\n" + line if self._torn else line
        try:
            while rest:
                if written := self._some(rest):
                    rest = rest[written:]
                    self._torn = bool(rest)
        except OSError:
            return False
        return True

    def _some(self, rest: bytes) -> int:
        try:
            return os.write(self._descriptor, rest)
        except BlockingIOError:
            # Somebody who shares the descriptor has made it so that it does not wait.
            select.select([], [self._descriptor], [])
            return 0
