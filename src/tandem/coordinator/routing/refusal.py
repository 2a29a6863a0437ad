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


def refusal(
    demand: Demand, reasons: set[Reason], *, model_is_known: bool, largest: int = 0
) -> TandemError:
    """`reasons` are those of all who serve the model to this account; `model_is_known` if anybody
    ever has; `largest` is how many tokens one sequence may have at the largest of them.

    ModelNotFound (404) when nobody is known to serve it, ContextLengthExceeded (400) when no cache
    could hold the request, Overloaded (429) when somebody could and is full, NoProviderAvailable
    (503) otherwise.
    """
    model = demand.model
    if Reason.TOO_SMALL in reasons and reasons <= _NEVER_FITS:
        return _too_long(demand, largest)
    if Reason.FULL in reasons:
        return Overloaded(f"every provider of the model `{model}` is busy: retry in a moment")
    if reasons or model_is_known:
        why = "; ".join(sorted(reasons)) or "its last provider has gone"
        return NoProviderAvailable(f"nobody can serve the model `{model}` now: {why}")
    return ModelNotFound(_not_found(demand), param="model")


def _too_long(demand: Demand, largest: int) -> ContextLengthExceeded:
    """Names the field that is too large by itself: the prompt's, or else max_tokens."""
    limit = f"no provider of the model `{demand.model}` can hold more than {largest} tokens"
    if demand.least_prompt >= largest:
        too_long = f"the prompt has {demand.least_prompt}"
    elif demand.least_tokens > largest:
        return ContextLengthExceeded(
            f"{limit}, and this may take {demand.least_tokens}: lower max_tokens",
            param="max_tokens",
        )
    else:
        too_long = f"{demand.text_bytes} bytes of text have more, however they are tokenised"
    return ContextLengthExceeded(
        f"{limit}, and {too_long}: shorten the prompt", param=demand.prompt_field
    )


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
