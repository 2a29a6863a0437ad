"""API keys in SQLite: created, listed, revoked, looked up. Only their hashes are stored.

Synchronous, for the command line and for the coordinator's worker threads.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from tandem.errors import ConfigurationError
from tandem.security import hash_secret, new_api_key

_FILE = "tandem.db"
#: How long a writer waits for another process's transaction.
_BUSY_TIMEOUT_S = 10.0
#: Characters of a key that a listing shows: enough to recognise it, useless to guess it.
_SHOWN = 14


class CreatedKey(msgspec.Struct, frozen=True):
    """`key` is the secret itself, which is shown this once."""

    id: int
    name: str
    key: str


class KeyRecord(msgspec.Struct, frozen=True):
    id: int
    name: str
    prefix: str
    created_at: datetime
    revoked_at: datetime | None


class _Base(DeclarativeBase):
    pass


class _Key(_Base):
    __tablename__ = "api_keys"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(index=True)
    prefix: Mapped[str]
    secret_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]

    def record(self) -> KeyRecord:
        revoked_at = self.revoked_at and self.revoked_at.replace(tzinfo=UTC)
        created_at = self.created_at.replace(tzinfo=UTC)
        return KeyRecord(self.id, self.name, self.prefix, created_at, revoked_at)


class KeyStore:
    """The keys of one data folder. Thread-safe; `close` releases the database."""

    def __init__(self, data_dir: Path) -> None:
        path = data_dir / _FILE
        self._log = path.with_name(f"{path.name}-wal")
        self._engine = sa.create_engine(
            f"sqlite:///{path}", connect_args={"timeout": _BUSY_TIMEOUT_S}
        )
        sa.event.listen(self._engine, "connect", _set_up_connection)
        _Base.metadata.create_all(self._engine)
        path.chmod(0o600)

    def create(self, name: str) -> CreatedKey:
        """Raises ConfigurationError for an empty name."""
        if not name.strip():
            raise ConfigurationError("a key needs a name: whose it is, or what for")
        secret = new_api_key()
        key = _Key(
            name=name,
            prefix=secret[:_SHOWN],
            secret_hash=hash_secret(secret),
            created_at=datetime.now(UTC),
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


def _set_up_connection(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    # Readers never wait for a writer, and a commit survives a crash of the process.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
