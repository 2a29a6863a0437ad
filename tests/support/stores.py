"""A deployment's stores, for tests that look into them; and stores that forget."""

from __future__ import annotations

from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from tandem.coordinator import Entry, KeyRecord, Total, stores_in
from tandem.coordinator.accounts.issuing import (
    StoredKey,
    check_account,
    check_share,
    new_key,
    only_match,
)
from tandem.coordinator.accounts.records import (
    CANCELLED,
    COMPLETED,
    CRASHED,
    DEFAULT_ACCOUNT,
    EVERYONE,
    OPEN,
    CreatedKey,
    KeyLimits,
    KeyRole,
    LedgerHealth,
    Share,
)
from tandem.errors import ConfigurationError
from tandem.security import hash_secret, new_join_token


def create_key(data_dir: Path, name: str = "test", **more: Any) -> str:  # noqa: ANN401 - any field
    """The secret of a new key in a data folder."""
    with closing(stores_in(data_dir).keys()) as keys:
        return keys.create(name, **more).key


def ledger_entries(data_dir: Path, *, limit: int) -> list[Entry]:
    """The newest entries of a data folder's ledger."""
    with closing(stores_in(data_dir).usage()) as usage:
        return usage.entries(limit=limit)


class MemoryStores:
    """`Stores` in memory: all that it opens share what they hold."""

    def __init__(self) -> None:
        self._keys = MemoryKeys()
        self._join_tokens = MemoryJoinTokens()
        self._entries: dict[str, Entry] = {}

    def keys(self) -> MemoryKeys:
        return self._keys

    def shares(self) -> MemoryShares:
        return MemoryShares(self._keys)

    def join_tokens(self) -> MemoryJoinTokens:
        return self._join_tokens

    def ledger(self) -> MemoryLedger:
        return MemoryLedger(self._entries)

    def usage(self) -> MemoryUsage:
        return MemoryUsage(self._entries)


class MemoryKeys:
    def __init__(self) -> None:
        self.shared: set[tuple[str, str]] = set()
        self._stored: list[StoredKey] = []
        self._changes = 0

    def changed(self) -> None:
        self._changes += 1

    async def find(self, secret: str) -> KeyRecord | None:
        found = [key.record for key in self._active() if key.secret_hash == hash_secret(secret)]
        if not found:
            return None
        lenders = {o for o, b in self.shared if b in (found[0].account, EVERYONE)}
        return msgspec.structs.replace(found[0], lenders=frozenset(lenders))

    def revision(self) -> int:
        return self._changes

    def create(
        self,
        name: str,
        *,
        account: str = DEFAULT_ACCOUNT,
        limits: KeyLimits | None = None,
        role: KeyRole = KeyRole.USER,
    ) -> CreatedKey:
        new = new_key(name, account, limits, role)
        number = len(self._stored) + 1
        record = KeyRecord(
            number, name, new.prefix, new.created_at, None, account, new.limits, role
        )
        self._stored.append(StoredKey(record, new.secret_hash))
        self._changes += 1
        return CreatedKey(number, name, new.secret)

    def list(self) -> list[KeyRecord]:
        return [key.record for key in self._stored]

    def revoke(self, which: str) -> KeyRecord:
        found = only_match(self._active(), which)
        revoked = msgspec.structs.replace(found, revoked_at=datetime.now(UTC))
        stored = self._stored[found.id - 1]
        self._stored[found.id - 1] = StoredKey(revoked, stored.secret_hash)
        self._changes += 1
        return revoked

    def close(self) -> None:
        pass

    def _active(self) -> tuple[StoredKey, ...]:
        return tuple(key for key in self._stored if key.record.revoked_at is None)


class MemoryShares:
    def __init__(self, keys: MemoryKeys) -> None:
        self._keys = keys

    def share(self, share: Share) -> None:
        check_share(share)
        self._keys.shared.add((share.owner, share.borrower))
        self._keys.changed()

    def unshare(self, share: Share) -> None:
        if (share.owner, share.borrower) not in self._keys.shared:
            raise ConfigurationError(f"{share.owner!r} does not share with {share.borrower!r}")
        self._keys.shared.remove((share.owner, share.borrower))
        self._keys.changed()

    def list(self) -> list[Share]:
        return [Share(*pair) for pair in sorted(self._keys.shared)]

    def close(self) -> None:
        pass


class MemoryJoinTokens:
    def __init__(self) -> None:
        self._accounts: dict[str, str] = {}

    async def account_of(self, token: str) -> str | None:
        return self._accounts.get(hash_secret(token))

    def create(self, account: str) -> str:
        check_account(account)
        token = new_join_token()
        self._accounts[hash_secret(token)] = account
        return token

    def close(self) -> None:
        pass


class MemoryLedger:
    health = LedgerHealth()

    def __init__(self, entries: dict[str, Entry]) -> None:
        self._entries = entries
        self.spent: dict[int, int] = defaultdict(int)
        for request_id, entry in entries.items():
            if entry.outcome == OPEN:
                entries[request_id] = msgspec.structs.replace(entry, outcome=CRASHED)
            if entry.key_id is not None:
                self.spent[entry.key_id] += entry.prompt_tokens + entry.completion_tokens

    def open(self, entry: Entry) -> None:
        self.record(entry)

    def record(self, entry: Entry) -> None:
        last = self._entries.get(entry.request_id)
        if last is None or last.outcome == OPEN:
            self._entries[entry.request_id] = entry

    def close(self) -> None:
        pass


class MemoryUsage:
    def __init__(self, entries: dict[str, Entry]) -> None:
        self._entries = entries

    def totals(self, *, since: datetime | None = None) -> list[Total]:
        groups: dict[tuple[int | None, str], list[Entry]] = defaultdict(list)
        for entry in self._entries.values():
            if entry.outcome != OPEN and (since is None or entry.started_at >= since):
                groups[entry.key_id, entry.model].append(entry)
        ordered = sorted(groups.items(), key=lambda item: (item[0][0] or -1, item[0][1]))
        return [_total(key_id, model, entries) for (key_id, model), entries in ordered]

    def entries(self, *, limit: int) -> list[Entry]:
        newest = sorted(self._entries.values(), key=lambda entry: entry.started_at, reverse=True)
        return newest[:limit]

    def close(self) -> None:
        pass


def _total(key_id: int | None, model: str, entries: list[Entry]) -> Total:
    return Total(
        key_id,
        model,
        len(entries),
        sum(entry.outcome not in (COMPLETED, CANCELLED) for entry in entries),
        sum(entry.prompt_tokens for entry in entries),
        sum(entry.completion_tokens for entry in entries),
        sum(entry.cached_tokens for entry in entries),
    )
