"""How much of a provider a request may take now: sequences and tokens. Pure functions.

A request of many sequences takes as many as there is room for, and the rest in later turns. One
key leaves a little of every provider to the others, as long as there are any: what it holds stays
below `_SHARE` times of what stays free (Choudhury and Hahne's dynamic thresholds, 1998), so that
another key's first request need not wait for an answer to end.
"""

from __future__ import annotations

from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing.demand import Demand
from tandem.protocol import ModelName

#: Alone, one key may hold seven eighths of a provider of eight sequences or more.
_SHARE = 7


def places(provider: Provider, demand: Demand) -> int:
    """How many of the request's sequences may begin there now; 0 when it has to wait.

    Where nothing runs one request may always begin, however large.
    """
    if provider.heartbeat is None:
        return demand.sequences
    room = provider.heartbeat.max_sequences - provider.sequences
    if demand.leaves_room:
        room = min(room, ((room + 1) * _SHARE - provider.held(demand.key)) // (_SHARE + 1))
    wanted = min(room, demand.sequences)
    if wanted < demand.least_sequences:
        return demand.least_sequences if provider.in_flight == 0 else 0
    free = provider.cache_tokens - provider.tokens
    fits = tokens_at(provider, demand.part(wanted)) <= free
    if not fits and demand.divisible:
        wanted, fits = _fitting(demand, free)
    if fits:
        return min(wanted, max(room, demand.least_sequences))
    return demand.least_sequences if provider.in_flight == 0 else 0


def has_room(provider: Provider) -> bool:
    """Whether any request could begin there now."""
    beat = provider.heartbeat
    return not provider.in_flight or beat is None or provider.sequences < beat.max_sequences


def largest(model: ModelName, provider: Provider) -> int:
    """Tokens that one sequence of a model that it serves may have there at most."""
    return min(provider.models[model].context_length, provider.cache_tokens)


def tokens_at(provider: Provider, demand: Demand) -> int:
    """What a request takes of its cache: no estimate is more than its sequences can hold."""
    context = provider.models[demand.model].context_length
    return min(demand.tokens, context * demand.sequences)


def _fitting(demand: Demand, free: int) -> tuple[int, bool]:
    """How many sequences so many tokens are enough for, and whether that is any."""
    shared = demand.part(0).tokens
    fitting = (free - shared) // max(1, demand.output_tokens + demand.own_prompt)
    return fitting, fitting >= 1
