"""For whom a request is: whose turn it takes, whose machines may have it, and whom it trusts."""

from __future__ import annotations

import msgspec

from tandem.coordinator.accounts.records import (
    DEFAULT_ACCOUNT,
    KeyRecord,
    account_of,
    owners_for,
)
from tandem.protocol import Trust


class Consumer(msgspec.Struct, frozen=True, kw_only=True):
    """`key` is whose turn in the queue it takes; `owners` are those whose machines may have it."""

    key: str = ""
    account: str = DEFAULT_ACCOUNT
    owners: frozenset[str] = frozenset({DEFAULT_ACCOUNT})
    min_trust: Trust = Trust.NONE

    @classmethod
    def of(cls, key: KeyRecord | None, min_trust: Trust) -> Consumer:
        """Who came with this key; the trust is the stricter of what key and request ask for."""
        least = Trust.NONE if key is None else key.limits.min_trust
        return cls(
            key="" if key is None else str(key.id),
            account=account_of(key),
            owners=owners_for(key),
            min_trust=min_trust if min_trust.reaches(least) else least,
        )
