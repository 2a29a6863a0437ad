"""API keys in SQLite: created, listed, revoked, looked up. Only their hashes are stored.

Synchronous, for the command line and for the coordinator's worker threads.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, Session, mapped_column

from tandem.coordinator.accounts.sqlite.database import Base, database_path, open_database
from tandem.errors import ConfigurationError
from tandem.protocol import Trust
from tandem.security import hash_secret, new_api_key

#: Whose keys and machines are, where nobody has said otherwise.
DEFAULT_ACCOUNT = "default"
#: Characters of a key that a listing shows: enough to recognise it, useless to guess it.
_SHOWN = 14


class CreatedKey(msgspec.Struct, frozen=True):
    """`key` is the secret itself, which is shown this once."""

    id: int
    name: str
    key: str


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may use, None for no limit, and the least trust of who may see its prompts.

    `budget_tokens` is for all of its life: prompts and answers together.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    budget_tokens: int | None = None
    min_trust: Trust = Trust.NONE


class KeyRecord(msgspec.Struct, frozen=True):
    """`account` is whose key it is: that account's machines may be listed and drained with it."""

    id: int
    name: str
    prefix: str
    created_at: datetime
    revoked_at: datetime | None
    account: str = DEFAULT_ACCOUNT
    limits: KeyLimits = KeyLimits()


class _Key(Base):
    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    prefix: Mapped[str]
    secret_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    account: Mapped[str] = mapped_column(default=DEFAULT_ACCOUNT)
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None]
    concurrent: Mapped[int | None]
    budget_tokens: Mapped[int | None]
    min_trust: Mapped[str] = mapped_column(default=Trust.NONE.value)

    def record(self) -> KeyRecord:
        limits = KeyLimits(
            requests_per_minute=self.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute,
            concurrent=self.concurrent,
            budget_tokens=self.budget_tokens,
            min_trust=Trust(self.min_trust),
        )
        revoked_at = self.revoked_at and self.revoked_at.replace(tzinfo=UTC)
        created_at = self.created_at.replace(tzinfo=UTC)
        return KeyRecord(
            self.id, self.name, self.prefix, created_at, revoked_at, self.account, limits
        )


class KeyStore:
    """The keys of one data folder. Thread-safe; `close` releases the database."""

    def __init__(self, data_dir: Path) -> None:
        """Raises ConfigurationError for a database that this version cannot read."""
        path = database_path(data_dir)
        self._log = path.with_name(f"{path.name}-wal")
        self._engine = open_database(data_dir)

    def create(
        self, name: str, *, account: str = DEFAULT_ACCOUNT, limits: KeyLimits | None = None
    ) -> CreatedKey:
        """Raises ConfigurationError for an empty name or account."""
        if not account.strip():
            raise ConfigurationError("an account needs a name")
        if not name.strip():
            raise ConfigurationError("a key needs a name: whose it is, or what for")
        secret = new_api_key()
        key = _Key(
            name=name,
            prefix=secret[:_SHOWN],
            secret_hash=hash_secret(secret),
            created_at=datetime.now(UTC),
            account=account,
            **msgspec.structs.asdict(limits or KeyLimits()),
        )
        with Session(self._engine) as session:
            session.add(key)
            session.commit()
            return CreatedKey(key.id, key.name, secret)

    def list(self) -> list[KeyRecord]:
        """All keys, revoked ones too, oldest first."""
        with Session(self._engine) as session:
            return [key.record() for key in session.scalars(sa.select(_Key).order_by(_Key.id))]

    def revoke(self, which: str) -> KeyRecord:
        """Revokes the key with this id, name, or beginning.

        Raises ConfigurationError when none is active under that, or more than one.
        """
        with Session(self._engine) as session:
            found = list(session.scalars(sa.select(_Key).where(_Key.revoked_at.is_(None))))
            key = _only_match(found, which)
            key.revoked_at = datetime.now(UTC)
            session.commit()
            return key.record()

    def find(self, secret: str) -> KeyRecord | None:
        """The active key with this secret."""
        query = sa.select(_Key).where(
            _Key.secret_hash == hash_secret(secret), _Key.revoked_at.is_(None)
        )
        with Session(self._engine) as session:
            key = session.scalar(query)
            return None if key is None else key.record()

    def change_mark(self) -> tuple[int, int]:
        """Differs from the last one when any process has committed since; costs one `stat`."""
        try:
            status = self._log.stat()
        except FileNotFoundError:
            return (0, 0)
        return (status.st_mtime_ns, status.st_size)

    def close(self) -> None:
        self._engine.dispose()


def _only_match(keys: list[_Key], which: str) -> _Key:
    exact = [key for key in keys if which in (str(key.id), key.name)]
    begun = [
        key
        for key in keys
        if key.secret_hash == hash_secret(which) or (which and key.prefix.startswith(which))
    ]
    matches = exact or begun
    if not matches:
        raise ConfigurationError(f"no active key matches {which!r}: see `tandem keys list`")
    if len(matches) > 1:
        ids = ", ".join(str(key.id) for key in matches)
        raise ConfigurationError(f"{which!r} fits several keys: name one by its id ({ids})")
    return matches[0]
