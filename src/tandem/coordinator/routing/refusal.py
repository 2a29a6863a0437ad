"""Why nobody gets a request, in words and as the error that says whether to come back."""

from __future__ import annotations

from tandem.coordinator.accounts.records import DEFAULT_ACCOUNT
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import Reason
from tandem.errors import (
    ContextLengthExceeded,
    ModelNotFound,
    NoProviderAvailable,
    Overloaded,
    TandemError,
)

#: When these are all there are, no time will make the request fit.
_NEVER_FITS = {Reason.TOO_SMALL, Reason.NOT_RANK_ZERO, Reason.MALFORMED_ROLE}


def refusal(demand: Demand, reasons: set[Reason], *, model_is_known: bool) -> TandemError:
    """`reasons` are those of all who serve the model to this account; `model_is_known` if anybody
    ever has.

    ModelNotFound (404) when nobody is known to serve it, ContextLengthExceeded (400) when no cache
    could hold the request, Overloaded (429) when somebody could and is full, NoProviderAvailable
    (503) otherwise.
    """
    model = demand.model
    if Reason.TOO_SMALL in reasons and reasons <= _NEVER_FITS:
        if demand.text_bytes > demand.least_tokens:
            return ContextLengthExceeded(
                f"no provider of the model `{model}` can hold a prompt of {demand.text_bytes} bytes"
                f" and {demand.least_tokens} tokens: shorten the prompt or lower max_tokens"
            )
        return ContextLengthExceeded(
            f"no provider of the model `{model}` can hold {demand.least_tokens} tokens: lower"
            " max_tokens",
            param="max_tokens",
        )
    if Reason.FULL in reasons:
        return Overloaded(f"every provider of the model `{model}` is busy: retry in a moment")
    if reasons or model_is_known:
        why = "; ".join(sorted(reasons)) or "its last provider has gone"
        return NoProviderAvailable(f"nobody can serve the model `{model}` now: {why}")
    return ModelNotFound(_not_found(demand), param="model")


def _not_found(demand: Demand) -> str:
    """Of a model that only others' machines serve it says the same as of one that is made up."""
    listed = "GET /v1/models lists those that do"
    if demand.account == DEFAULT_ACCOUNT:
        return f"the model `{demand.model}` does not exist: {listed}"
    return (
        f"the model `{demand.model}` does not exist for the account `{demand.account}`, whose"
        " requests go to its own machines and to those that `tandem accounts share` gives it:"
        f" {listed}"
    )
