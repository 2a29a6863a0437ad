"""One HTTP connection: uvicorn's protocol, with what a stranger may cost bounded.

Headers have a size and a deadline. An offer of another protocol than WebSocket is passed over, as
HTTP allows: the parser would take what follows for that protocol's, so it gets the header once more
without the offer. What is no HTTP is refused in the API's own words.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Callable
from http import HTTPStatus
from typing import cast

import httptools
from starlette.responses import Response
from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from tandem.coordinator.server.exchange import Exchange, UntilClosed
from tandem.coordinator.server.peer import Peer, put_peer
from tandem.coordinator.server.shared import Shared
from tandem.coordinator.server.websocket import WebSocketConnection
from tandem.errors import (
    HeaderTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    RequestTooSlow,
    TandemError,
    TooManyConnections,
)

#: What may wait in a connection's buffer before its writer waits: a few hundred pieces of a stream.
WRITE_BUFFER_BYTES = 64 * 1024
_BODY_HEADERS = {b"content-length", b"transfer-encoding"}


class HttpConnection(HttpToolsProtocol):
    def __init__(self, shared: Shared, peer: Peer) -> None:
        super().__init__(shared.config, shared.state, {})
        self._shared = shared
        self._limits = shared.limits
        self._peer = peer
        #: Bytes since the last whole header, or the last piece of a body.
        self._overhead = 0
        self._in_header = True
        self._begun = False
        #: Nothing more is parsed: the peer was refused, or speaks another protocol now.
        self._ended = False
        self._refusal: TandemError | None = None
        self._deadline: asyncio.TimerHandle | None = None

    # What the transport says.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._peer.attach(transport)
        self._set_deadline(self._limits.header_timeout_s, self._header_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._no_deadline()
        super().connection_lost(exc)
        self._shared.census.leave(self._peer)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        while data and not self._ended:
            left = self._limits.max_header_bytes - self._overhead
            if left <= 0:
                self._refuse(self._too_large(f"{self._limits.max_header_bytes} bytes"))
                return
            piece, data = data[:left], data[left:]
            self._overhead += len(piece)
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                data = self._upgrade(piece[upgrade.args[0] :] + data)
            except httptools.HttpParserError:
                self._refuse(self._refusal or InvalidRequest("this is not a request of HTTP/1.1"))
        if self._in_header and self._overhead and self._deadline is None and not self._ended:
            self._set_deadline(self._limits.header_timeout_s, self._header_late)

    # What the parser says.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = True
        put_peer(cast("Scope", self.scope), self._peer)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_header:
            return  # a trailer: nobody asks for one, and it must not pass for a header
        if len(self.headers) >= self._limits.max_headers:
            self._refuse_in_parser(self._too_large(f"{self._limits.max_headers} headers"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self.scope["method"] = self.parser.get_method().decode("ascii")
        if self.scope["method"] == "CONNECT":
            self._refuse_in_parser(MethodNotAllowed("CONNECT: this is no proxy"))
        if self.parser.should_upgrade():
            return
        self._no_deadline()
        self._in_header, self._overhead = False, 0
        self._set_target()
        waits = self._answering
        self.cycle = self._exchange()
        app = self._unavailable() if self._shared.census.crowded else self.app
        if not waits:
            self._start_asgi_task(self.cycle, app)
        elif len(self.pipeline) < self._limits.max_pipelined:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, app))  # type: ignore[arg-type]
        else:
            self._shared.events.happened("too_many_pipelined")
            self._end()
            self._peer.abort()

    def on_body(self, body: bytes) -> None:
        self._overhead = 0
        if not self.parser.should_upgrade():
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        self._in_header, self._begun, self._overhead = True, False, 0
        self._no_deadline()
        super().on_message_complete()

    # What becomes of a request.

    @property
    def _answering(self) -> bool:
        """Whether a request waits for the end of its answer; uvicorn has None before the first."""
        return not getattr(self.cycle, "response_complete", True)

    def on_response_complete(self) -> None:
        self._shared.census.idle(self._peer)
        super().on_response_complete()
        if not self._in_header and not self.transport.is_closing():
            self._set_deadline(self._limits.rest_timeout_s, self._peer.abort)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: object) -> None:
        self._shared.census.busy(self._peer)
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]

    def _unavailable(self) -> Response:
        self._shared.events.happened("crowded")
        return self._shared.error_response(
            TooManyConnections("too many connections are being answered: retry in a moment")
        )

    def _exchange(self) -> RequestResponseCycle:
        version = self.parser.get_http_version()
        kind = Exchange if version == "1.1" else UntilClosed
        return kind(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version == "1.1" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )

    def _set_target(self) -> None:
        target = httptools.parse_url(self.url)
        path = target.path or b"/"
        self.scope["http_version"] = self.parser.get_http_version()
        self.scope["path"] = urllib.parse.unquote(path.decode("ascii"))
        self.scope["raw_path"] = path
        self.scope["query_string"] = target.query or b""

    def _upgrade(self, rest: bytes) -> bytes:
        """What was sent after a header that offers another protocol; returns what is still HTTP."""
        if not self._should_upgrade():
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._overhead = 0
            return self._header_without_offer() + rest
        if self._answering:
            self._refuse(InvalidRequest("no WebSocket begins before the last request is answered"))
        else:
            self._speak_websocket(rest)
        return b""

    def _header_without_offer(self) -> bytes:
        lines = [b"%s %s HTTP/1.1" % (self.scope["method"].encode(), self.url)]
        for name, value in self.headers:
            if name == b"connection":
                kept = [word for word in value.split(b",") if word.strip().lower() != b"upgrade"]
                value = b",".join(kept)  # noqa: PLW2901
            if name != b"upgrade":
                lines.append(name + b": " + value)
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _should_upgrade(self) -> bool:
        """Any other offer is passed over: a handshake is a GET of HTTP/1.1, and has no body."""
        is_plain = self.scope["method"] == "GET" and self.parser.get_http_version() == "1.1"
        has_body = any(name in _BODY_HEADERS for name, _ in self.headers)
        return is_plain and not has_body and super()._should_upgrade()

    def _speak_websocket(self, rest: bytes) -> None:
        lines = [b"GET %s HTTP/1.1" % self.url]
        lines += [name + b": " + value for name, value in self.headers]
        connection = WebSocketConnection(self._shared, self._peer)
        connection.connection_made(self.transport)
        connection.data_received(b"\r\n".join(lines) + b"\r\n\r\n")
        if not connection.handshake_initiated:
            self.connections.discard(connection)
            self._refuse(InvalidRequest("this is no handshake of a WebSocket"))
            return
        self._end()
        self.connections.discard(self)
        self.parser = None  # type: ignore[assignment] # it holds us, as uvicorn does at an end
        self.transport.set_protocol(connection)
        if rest:
            connection.data_received(rest)

    # Refusals and deadlines.

    def _too_large(self, limit: str) -> HeaderTooLarge:
        return HeaderTooLarge(f"the header of the request is larger than {limit}, the limit")

    def _refuse_in_parser(self, error: TandemError) -> None:
        self._refusal = error
        raise error

    def _refuse(self, error: TandemError) -> None:
        """Answers what cannot be handed to the application, and hears the peer out for a moment."""
        self._end()
        self._shared.events.happened(
            "malformed_request" if type(error) is InvalidRequest else error.code
        )
        if self._answering and self._in_header:
            self.cycle.keep_alive = False  # the answer that is under way comes first
            return
        if self._answering:
            if self.cycle.response_started or self.pipeline:
                self._peer.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(self._written(error))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._set_deadline(self._limits.linger_s, self._peer.abort)

    def _written(self, error: TandemError) -> bytes:
        response = self._shared.error_response(error)
        phrase = HTTPStatus(response.status_code).phrase
        lines = [f"HTTP/1.1 {response.status_code} {phrase}".encode()]
        headers = [*self.server_state.default_headers, *response.raw_headers]
        lines += [name + b": " + value for name, value in headers]
        return b"\r\n".join([*lines, b"", bytes(response.body)])

    def _header_late(self) -> None:
        self._deadline = None
        if self._answering:
            self._set_deadline(self._limits.header_timeout_s, self._header_late)
        elif self._begun:
            limit_s = self._limits.header_timeout_s
            self._refuse(RequestTooSlow(f"no whole header came within {limit_s:g} s"))
        else:
            self._shared.events.happened("no_request")
            self._peer.abort()

    def _end(self) -> None:
        self._ended = True
        self._no_deadline()

    def _set_deadline(self, seconds: float, callback: Callable[[], None]) -> None:
        self._no_deadline()
        self._deadline = self.loop.call_later(seconds, callback)

    def _no_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
