"""A deployment's stores, for tests that look into them; and stores that forget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from tandem.coordinator import Entry, KeyRecord, Total, stores_in
from tandem.coordinator.accounts.issuing import (
    MAX_PENDING,
    StoredKey,
    check_account,
    check_share,
    check_token,
    known_node,
    new_key,
    new_node_id,
    only_match,
    only_token,
)
from tandem.coordinator.accounts.records import (
    CANCELLED,
    COMPLETED,
    CRASHED,
    DEFAULT_ACCOUNT,
    EVERYONE,
    OPEN,
    CreatedKey,
    JoinToken,
    KeyLimits,
    KeyRole,
    LedgerHealth,
    Node,
    NodeState,
    Share,
    ShutOut,
)
from tandem.errors import ConfigurationError
from tandem.security import hash_secret, new_join_token


def create_key(data_dir: Path, name: str = "test", **more: Any) -> str:  # noqa: ANN401 - any field
    """The secret of a new key in a data folder."""
    with closing(stores_in(data_dir).keys()) as keys:
        return keys.create(name, **more).key


def create_token(data_dir: Path, account: str = DEFAULT_ACCOUNT, uses: int | None = 1) -> str:
    """The secret of a new join token in a data folder."""
    with closing(stores_in(data_dir).nodes()) as nodes:
        return nodes.create_token(account, lasts=timedelta(hours=1), uses=uses)[1]


def ledger_entries(data_dir: Path, *, limit: int) -> list[Entry]:
    """The newest entries of a data folder's ledger."""
    with closing(stores_in(data_dir).usage()) as usage:
        return usage.entries(limit=limit)


class MemoryStores:
    """`Stores` in memory: all that it opens share what they hold."""

    def __init__(self) -> None:
        self._keys = MemoryKeys()
        self._nodes = MemoryNodes()
        self._entries: dict[str, Entry] = {}

    def keys(self) -> MemoryKeys:
        return self._keys

    def shares(self) -> MemoryShares:
        return MemoryShares(self._keys)

    def nodes(self) -> MemoryNodes:
        return self._nodes

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


class MemoryNodes:
    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self._tokens: dict[str, JoinToken] = {}
        self._changes = 0

    async def find(self, node_id: str) -> Node | None:
        return self._nodes.get(node_id)

    async def spend(self, token: str, *, made_after: datetime | None = None) -> JoinToken | None:
        found = self._tokens.get(hash_secret(token))
        if found is None or not found.is_usable(datetime.now(UTC)):
            return None
        if made_after is not None and found.created_at <= made_after:
            return None
        left = None if found.uses_left is None else found.uses_left - 1
        return self._keep(msgspec.structs.replace(found, uses_left=left))

    async def put(self, node: Node) -> None:
        if node.state is NodeState.PENDING and node.node_id in self._nodes:
            return
        self._nodes[node.node_id] = node
        self._changes += 1
        pending = [node for node in self.list() if node.state is NodeState.PENDING]
        for forgotten in pending[:-MAX_PENDING]:
            del self._nodes[forgotten.node_id]

    async def shut_out(self) -> ShutOut:
        nodes = (n.node_id for n in self._nodes.values() if n.state is NodeState.REMOVED)
        tokens = (t.secret_hash for t in self._tokens.values() if t.revoked_at is not None)
        return ShutOut(frozenset(nodes), frozenset(tokens))

    def revision(self) -> int:
        return self._changes

    def list(self) -> list[Node]:
        return sorted(self._nodes.values(), key=lambda node: (node.since, node.node_id))

    def approve(self, which: str, account: str | None = None) -> Node:
        if account is not None:
            check_account(account)
        return self._decide(which, NodeState.APPROVED, account)

    def remove(self, which: str) -> Node:
        return self._decide(which, NodeState.REMOVED)

    def create_token(
        self, account: str, *, lasts: timedelta | None, uses: int | None
    ) -> tuple[JoinToken, str]:
        check_token(account, lasts, uses)
        secret, now = new_join_token(), datetime.now(UTC)
        expires = None if lasts is None else now + lasts
        return self._keep(JoinToken(hash_secret(secret), account, now, expires, uses)), secret

    def tokens(self) -> Sequence[JoinToken]:
        return tuple(self._tokens.values())

    def revoke_token(self, which: str) -> JoinToken:
        found = only_token(self.tokens(), which)
        return self._keep(msgspec.structs.replace(found, revoked_at=datetime.now(UTC)))

    def close(self) -> None:
        pass

    def _keep(self, token: JoinToken) -> JoinToken:
        self._tokens[token.secret_hash] = token
        self._changes += 1
        return token

    def _decide(self, which: str, state: NodeState, account: str | None = None) -> Node:
        found = known_node(self.list(), which)
        node = found or Node(new_node_id(which), "", DEFAULT_ACCOUNT, NodeState.PENDING)
        decided = Node(node.node_id, node.name, account or node.account, state)
        self._nodes[node.node_id] = decided
        self._changes += 1
        return decided


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
