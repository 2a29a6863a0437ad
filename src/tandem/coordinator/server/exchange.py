"""One answer, and whether it ends the connection."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

#: More than any answer has, however many pieces were taken off it.
_ANY_LENGTH = sys.maxsize


class Exchange(RequestResponseCycle):
    """Ends the connection if the body was never asked for: it may come, or the next request."""

    async def send(self, message: ASGISendEvent) -> None:
        if message["type"] == "http.response.start" and self.waiting_for_100_continue:
            self.keep_alive = False
        await super().send(message)


class UntilClosed(Exchange):
    """For a client of HTTP/1.0, who knows no chunks: the end of the connection ends the answer.

    uvicorn holds answers to a length or cuts them into chunks; this one has neither.
    """

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
