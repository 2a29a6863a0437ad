"""What the coordinator asks of its stores: keys, shares, machines, and the ledger of usage.

Protocols: everybody else depends on these, and on `records`. What the event loop waits for is
`async`, what it calls between two tokens never blocks, and the rest is for the command line.
`tests/contracts/test_stores.py` says the same in tests, for every implementation.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from tandem.coordinator.accounts.records import (
    DEFAULT_ACCOUNT,
    CreatedKey,
    Entry,
    JoinToken,
    KeyLimits,
    KeyRecord,
    KeyRole,
    LedgerHealth,
    Node,
    Share,
    ShutOut,
    Total,
)


class Keys(Protocol):
    """API keys, of which only hashes are kept."""

    async def find(self, secret: str) -> KeyRecord | None:
        """The active key with this secret, and who shares machines with its account."""

    def revision(self) -> Hashable:
        """Differs from an earlier one when any process may have changed a key or a share since.

        Asked for at each request: it never blocks. A store that is told of changes counts them.
        """

    def create(
        self,
        name: str,
        *,
        account: str = DEFAULT_ACCOUNT,
        limits: KeyLimits | None = None,
        role: KeyRole = KeyRole.USER,
    ) -> CreatedKey:
        """Raises ConfigurationError for an empty name or account."""

    def list(self) -> list[KeyRecord]:
        """All keys, revoked ones too, oldest first."""

    def revoke(self, which: str) -> KeyRecord:
        """Revokes the key with this id, name, or beginning.

        Raises ConfigurationError when none is active under that, or more than one.
        """

    def close(self) -> None: ...


class Shares(Protocol):
    """Which accounts' machines serve other accounts too."""

    def share(self, share: Share) -> None:
        """Repeating it changes nothing. Raises ConfigurationError for a share of no use."""

    def unshare(self, share: Share) -> None:
        """Raises ConfigurationError when there is no such share."""

    def list(self) -> list[Share]:
        """All of them, ordered by owner and borrower."""

    def close(self) -> None: ...


class Nodes(Protocol):
    """Which machines may join, and the join tokens that let new ones in."""

    async def find(self, node_id: str) -> Node | None: ...

    async def spend(self, token: str, *, made_after: datetime | None = None) -> JoinToken | None:
        """Takes one use of a token; None when it is none, or has no use left, or no time.

        Or was not `made_after` that time.
        """

    async def put(self, node: Node) -> None:
        """Keeps a machine's state. One that is PENDING never replaces what is known of it.

        Of those that are pending, the newest `issuing.MAX_PENDING` are kept.
        """

    async def shut_out(self) -> ShutOut:
        """Who may not stay."""

    def revision(self) -> Hashable:
        """Differs from an earlier one when any process may have changed something since.

        It never blocks.
        """

    def list(self) -> list[Node]:
        """All machines that are known, oldest first."""

    def approve(self, which: str, account: str | None = None) -> Node:
        """Lets in the machine with this id, or its beginning; or of this whole id, unseen.

        One that was let in before has a name, too. Its account stays unless another is named.
        Raises ConfigurationError when none matches, or more than one.
        """

    def remove(self, which: str) -> Node:
        """Shuts a machine out until it is approved again, or comes with a new token.

        Raises ConfigurationError as `approve` does.
        """

    def create_token(
        self, account: str, *, lasts: timedelta | None, uses: int | None
    ) -> tuple[JoinToken, str]:
        """A new token and its secret; None is for ever, or for any number of machines.

        Raises ConfigurationError.
        """

    def tokens(self) -> Sequence[JoinToken]:
        """All of them, oldest first."""

    def revoke_token(self, which: str) -> JoinToken:
        """Revokes the token with this id or secret. Raises ConfigurationError."""

    def close(self) -> None: ...


class Ledger(Protocol):
    """One entry a request, written by the coordinator. No prompts, no answers.

    Opening it closes what a crash has left open, as CRASHED.
    """

    @property
    def spent(self) -> Mapping[int, int]:
        """Tokens by key, of the requests before this ledger was opened."""

    @property
    def health(self) -> LedgerHealth:
        """How it fares with keeping entries. Never blocks."""

    def open(self, entry: Entry) -> None:
        """A request begins. Never blocks. Raises Overloaded while entries cannot be kept."""

    def record(self, entry: Entry) -> None:
        """A request's newest state, which replaces the last until one is closed. Never blocks."""

    def close(self) -> None:
        """Returns when what was recorded is kept."""


class Usage(Protocol):
    """What the ledger holds, read by any process, while a coordinator writes it or not."""

    def totals(self, *, since: datetime | None = None) -> list[Total]:
        """Sums by key and model over what is closed, since a time, ordered by key and model."""

    def entries(self, *, limit: int) -> list[Entry]:
        """The newest ones, newest first, those under way too."""

    def close(self) -> None: ...


class Stores(Protocol):
    """Where one deployment keeps all of it; each part is opened by who needs it, and closed."""

    def keys(self) -> Keys:
        """Raises ConfigurationError when this version cannot read what is there, as the others."""

    def shares(self) -> Shares: ...

    def nodes(self) -> Nodes: ...

    def ledger(self) -> Ledger:
        """The coordinator's alone: one at a time."""

    def usage(self) -> Usage: ...
