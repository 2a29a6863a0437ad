"""What a request is told that nobody gets."""

from __future__ import annotations

import msgspec
import pytest

from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import Reason
from tandem.coordinator.routing.refusal import refusal
from tandem.errors import (
    ContextLengthExceeded,
    ModelNotFound,
    NoProviderAvailable,
    Overloaded,
    TandemError,
)
from tandem.protocol import ModelName

DEMAND = Demand(ModelName("m"), least_tokens=5000)


@pytest.mark.parametrize(
    ("reasons", "known", "error"),
    [
        (set(), False, ModelNotFound),
        (set(), True, NoProviderAvailable),
        ({Reason.NOT_READY}, False, NoProviderAvailable),
        ({Reason.STALE, Reason.DRAINING}, True, NoProviderAvailable),
        ({Reason.SET_ASIDE}, True, NoProviderAvailable),
        ({Reason.UNTRUSTED}, True, NoProviderAvailable),
        ({Reason.NOT_RANK_ZERO}, True, NoProviderAvailable),
        ({Reason.FULL}, True, Overloaded),
        ({Reason.FULL, Reason.TOO_SMALL, Reason.STALE}, True, Overloaded),
        ({Reason.TOO_SMALL}, True, ContextLengthExceeded),
        ({Reason.TOO_SMALL, Reason.NOT_RANK_ZERO}, True, ContextLengthExceeded),
        ({Reason.TOO_SMALL, Reason.MALFORMED_ROLE}, True, ContextLengthExceeded),
        ({Reason.TOO_SMALL, Reason.DRAINING}, True, NoProviderAvailable),
    ],
)
def test_the_error_says_whether_to_come_back(
    reasons: set[Reason], known: bool, error: type[TandemError]
) -> None:
    refused = refusal(DEMAND, reasons, model_is_known=known)
    assert type(refused) is error
    assert "m" in refused.message


def test_a_prompt_without_a_tokenisation_that_fits_is_to_be_shortened() -> None:
    long = msgspec.structs.replace(DEMAND, text_bytes=8_000_000, prompt_field="messages")
    refused = refusal(long, {Reason.TOO_SMALL}, model_is_known=True, largest=6000)
    assert isinstance(refused, ContextLengthExceeded)
    assert refused.param == "messages"
    assert "8000000 bytes" in refused.message
    assert "6000 tokens" in refused.message
    assert "shorten the prompt" in refused.message


@pytest.mark.parametrize(
    ("least_prompt", "field"), [(1, "max_tokens"), (3999, "max_tokens"), (4000, "prompt")]
)
def test_the_field_that_is_too_large_is_named(least_prompt: int, field: str) -> None:
    demand = Demand(
        ModelName("m"), least_prompt=least_prompt, least_tokens=5000, text_bytes=100_000
    )
    refused = refusal(demand, {Reason.TOO_SMALL}, model_is_known=True, largest=4000)
    assert refused.param == field
    assert "4000 tokens" in refused.message


def test_it_says_what_is_the_matter_and_which_field_to_change() -> None:
    absent = refusal(DEMAND, {Reason.STALE, Reason.DRAINING}, model_is_known=True)
    assert f"{Reason.STALE}; {Reason.DRAINING}" in absent.message
    assert "has gone" in refusal(DEMAND, set(), model_is_known=True).message
    large = refusal(DEMAND, {Reason.TOO_SMALL}, model_is_known=True, largest=4000)
    assert large.param == "max_tokens"
    assert "5000" in large.message
    assert refusal(DEMAND, set(), model_is_known=False).param == "model"
