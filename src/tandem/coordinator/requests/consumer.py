"""For whom a request is: whose turn it takes, whose machines may have it, and whom it trusts."""

from __future__ import annotations

import hashlib

import msgspec

from tandem.coordinator.accounts.records import (
    DEFAULT_ACCOUNT,
    KeyRecord,
    account_of,
    owners_for,
)
from tandem.protocol import Trust

_SCOPE_BYTES = 16


class Consumer(msgspec.Struct, frozen=True, kw_only=True):
    """`key` is whose turn in the queue it takes; `owners` are those whose machines may have it.

    Providers share cached prefixes among requests of one `cache_scope` alone.
    """

    key: str = ""
    account: str = DEFAULT_ACCOUNT
    owners: frozenset[str] = frozenset({DEFAULT_ACCOUNT})
    min_trust: Trust = Trust.NONE
    cache_scope: bytes = b""

    @classmethod
    def of(cls, key: KeyRecord | None, min_trust: Trust, scope_key: bytes) -> Consumer:
        """Who came with this key; the trust is the stricter of what key and request ask for.

        `scope_key` is the coordinator's secret, from which providers know accounts apart without
        learning their names.
        """
        account = account_of(key)
        least = Trust.NONE if key is None else key.limits.min_trust
        return cls(
            key="" if key is None else str(key.id),
            account=account,
            owners=owners_for(key),
            min_trust=min_trust if min_trust.reaches(least) else least,
            cache_scope=_cache_scope(account, scope_key),
        )


def _cache_scope(account: str, key: bytes) -> bytes:
    """None on the wire for the default account's."""
    if account == DEFAULT_ACCOUNT:
        return b""
    whose = account.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(whose, key=key, digest_size=_SCOPE_BYTES).digest()
