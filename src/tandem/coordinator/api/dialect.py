"""What an API that others have designed must say to be served here: a dialect.

A dialect is a folder beside this file, with its requests' schemas, how they become an
`InferenceRequest`, and how answers and errors are written; and a row of `app.DIALECTS`. Nothing
outside of its folder knows its format.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from starlette.types import Scope

from tandem.coordinator.api.http import header
from tandem.coordinator.requests.inference_request import InferenceRequest
from tandem.errors import TandemError
from tandem.protocol import Delta, FinishReason, TokenLogprob, Usage


@dataclass
class WholeChoice:
    """One choice as it grows."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[TokenLogprob] | None = None
    finish: FinishReason | None = None

    def add(self, delta: Delta) -> None:
        self.texts.append(delta.text)
        self.finish = delta.finish
        if delta.logprobs is not None:
            if self.logprobs is None:
                self.logprobs = []
            self.logprobs += delta.logprobs


class Format(Protocol):
    """How one request's answer is written: bytes of a body, or of an event stream."""

    def whole(self, choices: dict[int, WholeChoice], usage: Usage) -> bytes:
        """The body of an answer that is sent at once, as JSON."""

    def opening(self, choices: int) -> bytes:
        """The events that come before the first token, if any."""

    def event(self, delta: Delta) -> bytes:
        """The events of one delta, if it shows anything."""

    def end(self, usage: Usage) -> bytes:
        """The events that end a stream well."""

    def error(self, error: TandemError) -> bytes:
        """The events that end a stream which has begun and cannot go on."""


class RequestBody(Protocol):
    """A decoded request of any dialect."""

    @property
    def stream(self) -> bool | None:
        """Whether the answer is to come as an event stream."""


R = TypeVar("R", bound=RequestBody)


@dataclass(frozen=True)
class InferenceRoute(Generic[R]):
    """`POST path`. `to_request` raises InvalidRequest or UnsupportedParameter.

    `format` is given the request, an id for its answer, and the time (Unix, in seconds).
    """

    path: str
    schema: type[R]
    to_request: Callable[[R], InferenceRequest]
    format: Callable[[R, str, int], Format]


def bearer(scope: Scope) -> str | None:
    """The `Authorization` header."""
    return header(scope, b"authorization")


@dataclass(frozen=True)
class Dialect:
    """`error_body` writes the JSON of an error that is answered with its HTTP status.

    `credentials` finds the consumer's key, as an `Authorization` header would say it.
    """

    routes: tuple[InferenceRoute[Any], ...]
    error_body: Callable[[TandemError], bytes]
    credentials: Callable[[Scope], str | None] = bearer

    def serves(self, path: str) -> bool:
        """Whether errors of this path are this dialect's to write."""
        return any(path == route.path or path.startswith(f"{route.path}/") for route in self.routes)
