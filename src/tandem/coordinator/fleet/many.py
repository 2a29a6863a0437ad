"""What it takes to serve thousands of providers from one process, and two would do without.

Each connection, each heartbeat and each look at a provider costs the event loop some microseconds.
Times a few thousand they would be the coordinator's whole work, so three things are bounded here:
how many providers a choice looks at, how often they are heard of, and how much of what stays the
search for garbage walks through. Below these sizes nothing here changes anything.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator, Mapping

from tandem.coordinator.fleet.provider import Provider
from tandem.protocol import ProviderId

#: Among more providers than this, so many are drawn and the best of them is taken.
_COMPARED, _DRAWN = 32, 12
#: So many may send heartbeats at the usual pace.
_USUAL = 1000
#: Connections are frozen when there are so many more than the last time.
_GROWTH, _AT_LEAST = 1.25, 100


def is_crowd(serving: Mapping[ProviderId, Provider]) -> bool:
    """Whether there are too many to look at each of them for one request."""
    return len(serving) > _COMPARED


def pools(
    serving: Mapping[ProviderId, Provider], preferred: ProviderId | None, draw: random.Random
) -> Iterator[list[Provider]]:
    """Candidates to compare, until one may have the request.

    A few drawn at random (Mitzenmacher, 2001) and the preferred one, then all of them; of few
    providers all at once.
    """
    everybody = list(serving.values())
    if is_crowd(serving):
        drawn = draw.sample(everybody, _DRAWN)
        also = None if preferred is None else serving.get(preferred)
        yield drawn if also is None else [*drawn, also]
    yield everybody


def heartbeat_pace(providers: int) -> float:
    """How many times slower than usual one that joins so many is to send heartbeats.

    So that those of many thousand cost no more than those of a thousand.
    """
    return max(1.0, providers / _USUAL)


class ConnectionFreezer:
    """Has Python's search for garbage pass over connections, of which each is many objects.

    A full search takes half a second among thousands of them, and nobody is answered meanwhile.
    Frozen objects are freed as usual when nothing refers to them any more; only rings of them are
    not, so it is done at a new record only, and what rings could leave behind stays bounded.
    """

    def __init__(self) -> None:
        self._frozen_at = 0

    def grown_to(self, connections: int) -> None:
        if connections >= _GROWTH * self._frozen_at + _AT_LEAST:
            self._frozen_at = connections
            gc.freeze()
