"""What a web page may do here; the browser that shows it says whose page it is (`Origin`)."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from tandem.coordinator.api.errors import ErrorResponses
from tandem.coordinator.api.http import header
from tandem.errors import OriginRefused


class BrowserRules:
    """Providers are no browsers: a WebSocket that comes from a page is refused."""

    def __init__(self, app: ASGIApp, errors: ErrorResponses) -> None:
        self._app = app
        self._errors = errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and header(scope, b"origin") is not None:
            refusal = OriginRefused("a provider is no web page, and sends no Origin")
            await self._errors.closing(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)
