"""An answer to a client of HTTP/1.0: it knows no chunks, so the end of the connection ends it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

#: More than any answer has, however many pieces were taken off it.
_ANY_LENGTH = sys.maxsize


class UntilClosed(RequestResponseCycle):
    """uvicorn holds answers to a length or cuts them into chunks; this one has neither."""

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start":
            if b"content-length" not in {name.lower() for name, _ in message.get("headers", [])}:
                self.chunked_encoding, self.expected_content_length = False, _ANY_LENGTH
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self._accept_length(len(message.get("body", b"")))
        await super().send(message)

    def _accept_length(self, of_last_piece: int) -> None:
        if self.expected_content_length > _ANY_LENGTH // 2:
            self.expected_content_length = of_last_piece
