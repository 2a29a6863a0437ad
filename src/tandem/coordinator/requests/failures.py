"""What a failed attempt means: who is to blame, and whether the request is tried again.

Pure rules: `RequestRun` applies them.
"""

from __future__ import annotations

from enum import Enum

from tandem.errors import (
    ModelNotFound,
    NoProviderAvailable,
    Overloaded,
    RequestTimedOut,
    ServiceStopping,
    TandemError,
)
from tandem.protocol import ProviderId

#: A provider's way of saying "not now": no fault of its own, nor of the request.
_NOT_NOW = (Overloaded, ServiceStopping, NoProviderAvailable)
_FIRST_PAUSE_S = 0.05


class Blame(Enum):
    """Whose fault an attempt's end was."""

    REQUEST = "another provider would say the same"
    PROVIDER = "it counts against the provider"
    NOBODY = "the provider was busy, or left before it was asked"


def blame(error: TandemError, *, asked: bool) -> Blame:
    """`asked`: whether the request had reached the provider's link."""
    if is_requests_fault(error):
        return Blame.REQUEST
    if not asked or isinstance(error, _NOT_NOW):
        return Blame.NOBODY
    return Blame.PROVIDER


def is_requests_fault(error: TandemError) -> bool:
    """Whether the request is wrong, or its time is up."""
    if isinstance(error, ModelNotFound):
        return False  # the provider has not what it said it had
    return isinstance(error, RequestTimedOut) or 400 <= error.status < 429


class Failures:
    """What has failed since the last token: how often, and at whom."""

    def __init__(self, max_retries: int) -> None:
        self._max_retries = max_retries
        self._count = 0
        #: Asked again only when there is nobody else.
        self.avoid: set[ProviderId] = set()

    @property
    def may_retry(self) -> bool:
        return self._count <= self._max_retries

    def pause_s(self, provider: ProviderId) -> float:
        """How long to wait before this provider is asked: it may have failed just now."""
        return _FIRST_PAUSE_S * 2.0**self._count if provider in self.avoid else 0.0

    def add(self, provider: ProviderId) -> None:
        self._count += 1
        self.avoid.add(provider)

    def clear(self) -> None:
        """A token has come: the request is getting on."""
        self._count = 0
        self.avoid.clear()
