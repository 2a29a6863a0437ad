"""What every answer over HTTP is made of: JSON bodies, server-sent events, headers."""

from __future__ import annotations

import msgspec
from starlette.responses import Response
from starlette.types import Scope

Headers = list[tuple[bytes, bytes]]

SSE_HEADERS: Headers = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold tokens back
]

#: An event stream's way to say nothing.
KEEP_ALIVE = b": keep-alive\n\n"

_encoder = msgspec.json.Encoder()


def json_headers(body: bytes) -> Headers:
    return [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]


def json_response(body: msgspec.Struct) -> Response:
    return Response(_encoder.encode(body), media_type="application/json")


def sse(data: bytes) -> bytes:
    """One server-sent event. JSON has no raw line ends, so one `data:` line is enough."""
    return b"data: " + data + b"\n\n"


def header(scope: Scope, name: bytes) -> str | None:
    """The first header of this name (lower case) in an ASGI scope."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return None
