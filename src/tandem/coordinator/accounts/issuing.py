"""Rules that every store shares: what a new key or token is, and which one somebody means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec

from tandem.coordinator.accounts.records import (
    EVERYONE,
    JoinToken,
    KeyLimits,
    KeyRecord,
    KeyRole,
    Node,
    NodeState,
    Share,
)
from tandem.errors import ConfigurationError
from tandem.security import hash_secret, new_api_key

#: Characters of a key that a listing shows: enough to recognise it, useless to guess it.
_SHOWN = 14
#: Machines that wait to be approved; the oldest give way.
MAX_PENDING = 64
_NODE_ID = re.compile("[0-9a-f]{64}")


class NewKey(msgspec.Struct, frozen=True):
    """A key that no store holds yet. Stores keep `secret_hash` and `prefix`, never `secret`."""

    secret: str
    name: str
    account: str
    limits: KeyLimits
    role: KeyRole
    created_at: datetime

    @property
    def prefix(self) -> str:
        return self.secret[:_SHOWN]

    @property
    def secret_hash(self) -> str:
        return hash_secret(self.secret)


class StoredKey(msgspec.Struct, frozen=True):
    """A key as a store holds it."""

    record: KeyRecord
    secret_hash: str


def new_key(name: str, account: str, limits: KeyLimits | None, role: KeyRole) -> NewKey:
    """Raises ConfigurationError for an empty name or account."""
    check_account(account)
    if not name.strip():
        raise ConfigurationError("a key needs a name: whose it is, or what for")
    return NewKey(
        new_api_key(), name, account, limits or KeyLimits(), role, created_at=datetime.now(UTC)
    )


def check_account(account: str) -> None:
    """Raises ConfigurationError for an empty name, and for one that means something else."""
    if not account.strip():
        raise ConfigurationError("an account needs a name")
    if account == EVERYONE:
        raise ConfigurationError(f"no account can be called {EVERYONE!r}: it means all of them")


def check_share(share: Share) -> None:
    """Raises ConfigurationError for accounts that are none, and for one that shares with itself."""
    check_account(share.owner)
    if share.borrower != EVERYONE:
        check_account(share.borrower)
    if share.owner == share.borrower:
        raise ConfigurationError(f"{share.owner!r} may use its own machines as it is")


def only_match(active: Sequence[StoredKey], which: str) -> KeyRecord:
    """The one key with this id or name, else with this beginning or secret.

    Raises ConfigurationError when there is none, or more than one.
    """
    exact = [key for key in active if which in (str(key.record.id), key.record.name)]
    begun = [
        key
        for key in active
        if key.secret_hash == hash_secret(which) or (which and key.record.prefix.startswith(which))
    ]
    matches = exact or begun
    if not matches:
        raise ConfigurationError(f"no active key matches {which!r}: see `tandem keys list`")
    if len(matches) > 1:
        ids = ", ".join(str(key.record.id) for key in matches)
        raise ConfigurationError(f"{which!r} fits several keys: name one by its id ({ids})")
    return matches[0].record


def check_token(account: str, lasts: timedelta | None, uses: int | None) -> None:
    """Raises ConfigurationError for a token that could let nobody in."""
    check_account(account)
    if uses is not None and uses < 1:
        raise ConfigurationError("a join token has at least one use")
    if lasts is not None and lasts <= timedelta():
        raise ConfigurationError("a join token lasts for some time")


def known_node(nodes: Sequence[Node], which: str) -> Node | None:
    """The one with this node id, or this beginning of it, or this name; None if there is none.

    A name is a machine's own word: it never stands for an id, and for a machine only once that was
    let in. Raises ConfigurationError when there are several, or one that waits is named so.
    """
    if _NODE_ID.fullmatch(which):
        return next((node for node in nodes if node.node_id == which), None)
    named = [node for node in nodes if which and node.name == which]
    matches = [
        node
        for node in nodes
        if (which and node.node_id.startswith(which))
        or (node in named and node.state is not NodeState.PENDING)
    ]
    if len(matches) > 1:
        raise ConfigurationError(
            f"{which!r} fits several machines: name one by its id ({_ids(matches)})"
        )
    if named and not matches:
        raise ConfigurationError(
            f"{which!r} is what a machine calls itself that nobody has let in: compare its id with"
            f" what your machine shows, and name it by that ({_ids(named)})"
        )
    return matches[0] if matches else None


def _ids(nodes: Sequence[Node]) -> str:
    return ", ".join(node.node_id[:16] for node in nodes)


def new_node_id(which: str) -> str:
    """The id of a machine that has not been seen. Raises ConfigurationError for what is none."""
    if not _NODE_ID.fullmatch(which):
        raise ConfigurationError(
            f"no machine matches {which!r}: see `tandem nodes list`, or give the whole id that the"
            " machine itself shows"
        )
    return which


def only_token(tokens: Sequence[JoinToken], which: str) -> JoinToken:
    """The one with this id or secret that is not revoked. Raises ConfigurationError."""
    active = [token for token in tokens if token.revoked_at is None]
    matches = [t for t in active if which == t.id or hash_secret(which) == t.secret_hash]
    if len(matches) != 1:
        raise ConfigurationError(
            f"no active join token matches {which!r}: see `tandem nodes tokens`"
        )
    return matches[0]
