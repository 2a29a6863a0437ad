"""Failures as OpenAI's error objects."""

from __future__ import annotations

import msgspec

from tandem.errors import TandemError

_encoder = msgspec.json.Encoder()


class ErrorDetail(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(msgspec.Struct, frozen=True):
    error: ErrorDetail


def error_body(error: TandemError) -> bytes:
    detail = ErrorDetail(error.message, error.kind, error.param, error.code)
    return _encoder.encode(ErrorBody(detail))
