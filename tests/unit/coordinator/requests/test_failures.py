"""Who is to blame for an attempt's end, and how often a request is tried again."""

from __future__ import annotations

import pytest

from tandem.coordinator.requests.failures import Blame, Failures, blame, may_be_deadly
from tandem.errors import (
    ContextLengthExceeded,
    ExecutorFailed,
    InternalError,
    LinkLost,
    ModelNotFound,
    NoProviderAvailable,
    Overloaded,
    ProtocolError,
    ProviderLost,
    RequestTimedOut,
    ServiceStopping,
    TandemError,
    UnsupportedParameter,
)
from tandem.protocol import ProviderId

A, B = ProviderId("a"), ProviderId("b")


@pytest.mark.parametrize(
    ("kind", "whose"),
    [
        (ProviderLost, Blame.PROVIDER),
        (ProtocolError, Blame.PROVIDER),
        (ExecutorFailed, Blame.PROVIDER),
        (LinkLost, Blame.NOBODY),
        (ModelNotFound, Blame.PROVIDER),
        (Overloaded, Blame.NOBODY),
        (ServiceStopping, Blame.NOBODY),
        (NoProviderAvailable, Blame.NOBODY),
        (ContextLengthExceeded, Blame.REQUEST),
        (UnsupportedParameter, Blame.REQUEST),
        (RequestTimedOut, Blame.PROVIDER),
        (InternalError, Blame.REQUEST),
    ],
)
def test_each_error_is_somebodys_fault(kind: type[TandemError], whose: Blame) -> None:
    assert blame(kind("why"), asked=True) is whose


def test_a_provider_that_was_not_asked_is_not_to_blame() -> None:
    assert blame(ProviderLost("it has just left"), asked=False) is Blame.NOBODY


@pytest.mark.parametrize(
    ("kind", "deadly"),
    [
        (ProviderLost, True),
        (ExecutorFailed, True),
        (LinkLost, True),
        (ProtocolError, False),
        (Overloaded, False),
        (ContextLengthExceeded, False),
    ],
)
def test_what_ends_a_provider_may_be_the_requests_doing(
    kind: type[TandemError], deadly: bool
) -> None:
    assert may_be_deadly(kind("why")) == deadly


def test_a_token_makes_up_for_what_failed_before() -> None:
    failures = Failures()
    for _ in range(20):
        failures.add(A)
    before = failures.are_few
    failures.clear()
    assert (before, failures.are_few) == (False, True)
    assert not failures.avoid


def test_who_has_failed_is_given_time_longer_each_round_up_to_a_bound() -> None:
    failures = Failures()
    assert failures.pause_s(A) == 0.0
    failures.add(A)
    first = failures.pause_s(A)
    failures.add(A)
    assert failures.pause_s(A) == 2.0 * first > 0.0
    assert failures.pause_s(B) == 0.0
    for _ in range(5000):
        failures.add(A)
    assert failures.pause_s(A) == 2.0
