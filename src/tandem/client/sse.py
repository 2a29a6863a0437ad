"""Server-sent events, decoded from bytes without I/O (the WHATWG event stream format).

Lines end at LF, CR or CRLF and at nothing else: an answer may well contain U+2028 or U+0085,
which `str.splitlines` would break a JSON payload at.
"""

from __future__ import annotations

import re

from tandem.errors import ProtocolError

#: A line that never ends must not fill the memory; the largest event we expect is some kilobytes.
MAX_EVENT_BYTES = 4 * 1024 * 1024

_LINE_END = re.compile(rb"[\r\n]")


class SseDecoder:
    """Feed it the body as it arrives; it returns the `data` of each event that is complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._skip_lf = False

    def feed(self, received: bytes) -> list[bytes]:
        """The data of every event that these bytes completed, in order."""
        self._buffer += received
        events: list[bytes] = []
        while (line := self._next_line()) is not None:
            if line:
                self._take_field(line)
            elif self._data:
                events.append(b"\n".join(self._data))
                self._data.clear()
                self._data_bytes = 0
        if len(self._buffer) + self._data_bytes > MAX_EVENT_BYTES:
            raise ProtocolError(f"the server sent an event over {MAX_EVENT_BYTES} bytes")
        return events

    def _next_line(self) -> bytes | None:
        if self._skip_lf and self._buffer:
            # The CR before it has already ended a line; together they end only that one.
            if self._buffer[0] == ord("\n"):
                del self._buffer[0]
            self._skip_lf = False
        found = _LINE_END.search(self._buffer)
        if found is None:
            return None
        end = found.start()
        line = bytes(self._buffer[:end])
        self._skip_lf = self._buffer[end] == ord("\r")
        del self._buffer[: end + 1]
        return line

    def _take_field(self, line: bytes) -> None:
        """Keeps `data`; comments (an empty name) and the fields we have no use for are dropped."""
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._data_bytes += len(value)
