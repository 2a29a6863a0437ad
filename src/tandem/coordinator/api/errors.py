"""The one place where an error meets HTTP: its status and headers, in the words of a dialect."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tandem.coordinator.api.dialect import Dialect
from tandem.errors import InternalError, MethodNotAllowed, NotFound, TandemError

log = structlog.get_logger(__name__)


class ErrorResponses:
    """Errors as the dialect of their path writes them; elsewhere as the first dialect does."""

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self._dialects = dialects

    async def on_tandem_error(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, TandemError)
        return self._response(request, error)

    async def on_http_exception(self, request: Request, error: Exception) -> Response:
        """The router's own: no such route, or not with this method."""
        assert isinstance(error, HTTPException)
        route = f"{request.method} {request.url.path}"
        if error.status_code == 405:
            refusal = MethodNotAllowed(f"{route}: this route has other methods")
            response = self._response(request, refusal)
            response.headers.update(error.headers or {})
            return response
        return self._response(request, NotFound(f"{route}: there is no such route"))

    async def on_defect(self, request: Request, error: Exception) -> Response:
        log.error("defect", path=request.url.path, exc_info=error)
        return self._response(request, InternalError("a defect of this service; its log says more"))

    def closing(self, error: TandemError) -> Response:
        """For what never came to a route: it ends the connection."""
        response = self._written(error, self._dialects[0])
        response.headers["Connection"] = "close"
        return response

    def at(self, path: str, error: TandemError) -> Response:
        return self._written(error, self._dialect(path))

    def _response(self, request: Request, error: TandemError) -> Response:
        return self.at(request.url.path, error)

    @staticmethod
    def _written(error: TandemError, dialect: Dialect) -> Response:
        headers = {}
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(error.retry_after_s)
        if error.status >= 500 and not error.retryable:
            headers["X-Should-Retry"] = "false"  # SDKs repeat what they get from 500 on
        if error.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        body = dialect.error_body(error)
        return Response(body, error.status, headers, media_type="application/json")

    def _dialect(self, path: str) -> Dialect:
        return next((d for d in self._dialects if d.serves(path)), self._dialects[0])
