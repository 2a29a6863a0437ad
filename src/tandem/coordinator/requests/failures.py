"""What a failed attempt means: who is to blame, and who is asked next.

Pure rules: `RequestRun` applies them.
"""

from __future__ import annotations

from enum import Enum

from tandem.errors import (
    ExecutorFailed,
    InternalError,
    LinkLost,
    ModelNotFound,
    NoProviderAvailable,
    Overloaded,
    ProviderLost,
    ServiceStopping,
    TandemError,
)
from tandem.protocol import ProviderId

#: A provider's way of saying "not now": no fault of its own, nor of the request.
_NOT_NOW = (Overloaded, ServiceStopping, NoProviderAvailable)
#: What a request that kills may look like from here.
_DEADLY = (ProviderLost, ExecutorFailed, LinkLost)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
#: So many failures without a token are patience; after more, beginning once again is no progress.
_NO_LOOP = 8
_OPINIONS = 3


class Blame(Enum):
    """Whose fault an attempt's end was."""

    REQUEST = "another provider would most likely say the same"
    PROVIDER = "it counts against the provider"
    NOBODY = "the provider was busy, left before it was asked, or lost a partner"


def blame(error: TandemError, *, asked: bool) -> Blame:
    """`asked`: whether the request had reached the provider's link."""
    if is_requests_fault(error):
        return Blame.REQUEST
    if not asked or isinstance(error, (*_NOT_NOW, LinkLost)):
        return Blame.NOBODY
    return Blame.PROVIDER


def is_requests_fault(error: TandemError) -> bool:
    """Whether a provider says that the request is wrong, or that it cannot deal with this one.

    That its time is up is not for a provider to say.
    """
    if isinstance(error, ModelNotFound):
        return False  # the provider has not what it said it had
    return isinstance(error, InternalError) or 400 <= error.status < 429


def may_be_deadly(error: TandemError) -> bool:
    """Whether the provider, or what computes there, came to an end."""
    return isinstance(error, _DEADLY)


class Failures:
    """What has failed since the last token: how often, and at whom."""

    def __init__(self) -> None:
        self._count = 0
        #: Asked again only when there is nobody else.
        self.avoid: set[ProviderId] = set()
        #: The machines that would not have the request, and what the first of them said.
        self.refused_by: set[str] = set()
        self.refusal: TandemError | None = None

    @property
    def are_few(self) -> bool:
        """Whether it is progress that a provider computes the prompt."""
        return self._count < _NO_LOOP

    def pause_s(self, provider: ProviderId) -> float:
        """How long to wait before this provider is asked: it may have failed just now."""
        if provider not in self.avoid:
            return 0.0
        return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(self._count, 16))

    def add(self, provider: ProviderId) -> None:
        self._count += 1
        self.avoid.add(provider)

    def refuse(self, machine: str, error: TandemError) -> None:
        """One provider alone may be wrong about a request, or lie."""
        self.refused_by.add(machine)
        self.refusal = self.refusal or error

    @property
    def are_agreed(self) -> bool:
        """Whether so many have refused the request that others need not be asked."""
        return len(self.refused_by) >= _OPINIONS

    def clear(self) -> None:
        """A token has come: the request is getting on."""
        self._count = 0
        self.avoid.clear()
        self.refused_by.clear()
        self.refusal = None
