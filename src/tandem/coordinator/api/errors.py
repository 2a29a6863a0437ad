"""Failures as OpenAI's error objects: the one place where an error meets HTTP."""

from __future__ import annotations

import msgspec
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tandem.errors import InternalError, MethodNotAllowed, NotFound, TandemError

log = structlog.get_logger(__name__)

_encoder = msgspec.json.Encoder()


class ErrorDetail(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(msgspec.Struct, frozen=True):
    error: ErrorDetail


def error_json(error: TandemError) -> bytes:
    detail = ErrorDetail(error.message, error.kind, error.param, error.code)
    return _encoder.encode(ErrorBody(detail))


def error_response(error: TandemError) -> Response:
    headers = {}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(error_json(error), error.status, headers, media_type="application/json")


async def on_tandem_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, TandemError)
    return error_response(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """The router's own: no such route, or not with this method."""
    assert isinstance(error, HTTPException)
    route = f"{request.method} {request.url.path}"
    if error.status_code == 405:
        response = error_response(MethodNotAllowed(f"{route}: this route has other methods"))
        response.headers.update(error.headers or {})
        return response
    return error_response(NotFound(f"{route}: there is no such route"))


async def on_defect(request: Request, error: Exception) -> Response:
    log.error("defect", path=request.url.path, exc_info=error)
    return error_response(InternalError("a defect of this service; its log says more"))
