"""Who is to blame for an attempt's end, and how often a request is tried again."""

from __future__ import annotations

import pytest

from tandem.coordinator.requests.failures import Blame, Failures, blame
from tandem.errors import (
    ContextLengthExceeded,
    ExecutorFailed,
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
        (LinkLost, Blame.PROVIDER),
        (ModelNotFound, Blame.PROVIDER),
        (Overloaded, Blame.NOBODY),
        (ServiceStopping, Blame.NOBODY),
        (NoProviderAvailable, Blame.NOBODY),
        (ContextLengthExceeded, Blame.REQUEST),
        (UnsupportedParameter, Blame.REQUEST),
        (RequestTimedOut, Blame.REQUEST),
    ],
)
def test_each_error_is_somebodys_fault(kind: type[TandemError], whose: Blame) -> None:
    assert blame(kind("why"), asked=True) is whose


def test_a_provider_that_was_not_asked_is_not_to_blame() -> None:
    assert blame(ProviderLost("it has just left"), asked=False) is Blame.NOBODY


def test_the_last_retry_is_the_last() -> None:
    failures = Failures(max_retries=2)
    tries = []
    for _ in range(4):
        failures.add(A)
        tries.append(failures.may_retry)
    assert tries == [True, True, False, False]


def test_a_token_makes_up_for_what_failed_before() -> None:
    failures = Failures(max_retries=0)
    failures.add(A)
    failures.clear()
    assert failures.may_retry
    assert failures.avoid == set()


def test_who_has_failed_is_given_time_longer_each_round() -> None:
    failures = Failures(max_retries=4)
    assert failures.pause_s(A) == 0.0
    failures.add(A)
    first = failures.pause_s(A)
    failures.add(A)
    assert failures.pause_s(A) == 2.0 * first > 0.0
    assert failures.pause_s(B) == 0.0
