"""Logs on stderr: an event name and fields, never prompts or answers.

Lines are readable on a terminal and JSON elsewhere, so that scripts and collectors need no parser.
What libraries log by Python's own module is a line like every other.
"""

from __future__ import annotations

import atexit
import io
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, TextIO

import structlog

from tandem.runtime.log_sink import LogSink

#: A moment for the last lines, at the end of a process.
_LAST_LINES_S = 0.5
_INTERVAL_S = 10.0
#: Of one place in a library, in an interval: peers can make it speak as often as they like.
_LIBRARY_LINES = 20


def configure_logging(level: str = "info", *, json: bool | None = None) -> None:
    """Sets up structlog for the process. `json` None means: JSON unless stderr is a terminal."""
    as_json = not sys.stderr.isatty() if json is None else json
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.WriteLoggerFactory(_destination(sys.stderr)),
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    if not any(isinstance(handler, FromLibraries) for handler in root.handlers):
        root.addHandler(FromLibraries(logging.WARNING))


def drain_log(timeout_s: float = _LAST_LINES_S) -> None:
    """Waits until the lines so far are written; for who ends the process without a farewell."""
    if _sink.cache_info().currsize:
        _sink().drain(timeout_s)


class FewLines:
    """What others can cause as often as they like has `lines` of a kind in ten seconds."""

    def __init__(self, lines: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._lines = lines
        self._clock = clock
        self._unsaid: Counter[Hashable] = Counter()
        #: When a kind's ten seconds began, and its lines since then.
        self._said: dict[Hashable, tuple[float, int]] = {}

    def happened(self, kind: Hashable) -> int:
        """Of how many times a line is due that says so; 0 for none now. There are few kinds."""
        self._unsaid[kind] += 1
        now = self._clock()
        began, lines = self._said.get(kind, (now, 0))
        if now - began >= _INTERVAL_S:
            began, lines = now, 0
        if lines >= self._lines:
            return 0
        self._said[kind] = began, lines + 1
        return self._unsaid.pop(kind)


class FromLibraries(logging.Handler):
    """Warnings and errors of libraries, to structlog."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._few = FewLines(_LIBRARY_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        times = self._few.happened((record.name, record.pathname, record.lineno))
        if times:
            structlog.get_logger().log(
                record.levelno,
                "library_says",
                library=record.name,
                message=record.getMessage(),
                times=times,
                exc_info=record.exc_info,
            )


def _destination(stream: TextIO) -> TextIO:
    """A sink that nobody waits for, or the stream itself where it is in memory."""
    try:
        is_standard = stream.fileno() == 2
    except (io.UnsupportedOperation, ValueError):
        is_standard = False
    return _sink() if is_standard else stream  # type: ignore[return-value] # it writes and flushes


@cache
def _sink() -> LogSink:
    """The process has one: the standard error stream is one, too."""
    sink = LogSink(2, _lost_line)
    atexit.register(sink.drain, _LAST_LINES_S)
    return sink


def _lost_line(lost: int) -> str:
    """As the lines were that are missing."""
    line: Any = {"event": "log_lines_lost", "lines": lost}
    for processor in structlog.get_config()["processors"]:
        line = processor(None, "warning", line)
    return f"{line}\n"
