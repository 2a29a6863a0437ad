"""What the coordinator asks of its stores: keys, join tokens, and the ledger of usage.

Protocols: everybody else depends on these, and on `records`. What the event loop waits for is
`async`, what it calls between two tokens never blocks, and the rest is for the command line.
`tests/contracts/test_stores.py` says the same in tests, for every implementation.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from datetime import datetime
from typing import Protocol

from tandem.coordinator.accounts.records import (
    DEFAULT_ACCOUNT,
    CreatedKey,
    Entry,
    KeyLimits,
    KeyRecord,
    KeyRole,
    LedgerHealth,
    Share,
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


class JoinTokens(Protocol):
    """The secrets that let an account's machines in, beside the deployment's own token."""

    async def account_of(self, token: str) -> str | None:
        """The account that a token belongs to; None for a token that is none."""

    def create(self, account: str) -> str:
        """A new token for an account's machines. Raises ConfigurationError without a name."""

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

    def join_tokens(self) -> JoinTokens: ...

    def ledger(self) -> Ledger:
        """The coordinator's alone: one at a time."""

    def usage(self) -> Usage: ...
