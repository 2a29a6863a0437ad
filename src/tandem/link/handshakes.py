"""Who gives way when too many connections want to shake hands at once. Pure.

A paired node is through within a few round trips, whoever only holds a place is not: so nobody is
kept out, and the oldest of the address with the most handshakes under way gives its place up.
"""

from __future__ import annotations

import ipaddress
from typing import Generic, TypeVar

#: Under way at once, from all addresses and from one.
MAX_HANDSHAKES, MAX_AN_ADDRESS = 256, 64
#: Whoever has one address of a network of this size has all of them.
_IPV6_PREFIX = 64

T = TypeVar("T")


class Handshakes(Generic[T]):
    """Handshakes under way, each a ticket of the caller's, in the order of their beginning."""

    def __init__(
        self, max_in_all: int = MAX_HANDSHAKES, max_an_address: int = MAX_AN_ADDRESS
    ) -> None:
        self._max_in_all = max_in_all
        self._max_an_address = max_an_address
        self._by_source: dict[str, dict[T, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def enter(self, host: str, ticket: T) -> T | None:
        """Adds one; returns the one that has to end for it, which is no longer counted."""
        own = self._by_source.setdefault(source_of(host), {})
        own[ticket] = None
        self._count += 1
        if len(own) > self._max_an_address:
            return self._oldest_of(host)
        if self._count > self._max_in_all:
            return self._oldest_of(
                max(self._by_source, key=lambda each: len(self._by_source[each]))
            )
        return None

    def leave(self, host: str, ticket: T) -> None:
        """One has ended; nothing happens if it gave way before."""
        source = source_of(host)
        own = self._by_source.get(source, {})
        if ticket in own:
            del own[ticket]
            self._count -= 1
        if not own:
            self._by_source.pop(source, None)

    def _oldest_of(self, host: str) -> T:
        oldest = next(iter(self._by_source[source_of(host)]))
        self.leave(host, oldest)
        return oldest


def source_of(host: str) -> str:
    """What counts as one sender: an IPv4 address, or an IPv6 network."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host  # a source already
    if address.version == 4 or address.is_link_local:
        return host
    return str(ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False))
