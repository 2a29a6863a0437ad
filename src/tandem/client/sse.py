"""Server-sent events, decoded from bytes without I/O (the WHATWG event stream format).

Lines end at LF, CR or CRLF and at nothing else: an answer may well contain U+2028 or U+0085,
which `str.splitlines` would break a JSON payload at.
"""

from __future__ import annotations

from collections.abc import Callable

from tandem.errors import ProtocolError

#: A line that never ends must not fill the memory; the largest event we expect is some kilobytes.
MAX_EVENT_BYTES = 4 * 1024 * 1024


class SseDecoder:
    """Feed it the body as it arrives; it returns the `data` of each event that is complete.

    `on_comment` is told each comment as it comes, as it stands after the colon.
    """

    def __init__(self, on_comment: Callable[[bytes], None] = lambda _: None) -> None:
        self._on_comment = on_comment
        self._line = b""
        self._after_cr = False
        self._data: list[bytes] = []
        self._data_bytes = 0

    def feed(self, received: bytes) -> list[bytes]:
        """The data of every event that these bytes completed, in order."""
        events: list[bytes] = []
        for line in self._lines(received):
            if line:
                self._take_field(line)
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
                self._data_bytes = 0
        if len(self._line) + self._data_bytes > MAX_EVENT_BYTES:
            raise ProtocolError(f"the server sent an event over {MAX_EVENT_BYTES} bytes")
        return events

    def _lines(self, received: bytes) -> list[bytes]:
        """Those that these bytes completed."""
        if self._after_cr and received:
            # The CR has already ended a line; with an LF it ends only that one.
            received = received.removeprefix(b"\n")
            self._after_cr = False
        pending = self._line + received
        if b"\r" in pending:
            self._after_cr = pending.endswith(b"\r")
            pending = pending.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, self._line = pending.split(b"\n")
        return lines

    def _take_field(self, line: bytes) -> None:
        """Keeps `data`, hands comments on; the fields that we have no use for are dropped."""
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._data_bytes += len(value)
        elif not name:
            self._on_comment(value)
