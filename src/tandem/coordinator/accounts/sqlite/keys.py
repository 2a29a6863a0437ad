"""API keys in SQLite: created, listed, revoked, looked up. Only their hashes are stored."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from tandem.coordinator.accounts.issuing import StoredKey, new_key, only_match
from tandem.coordinator.accounts.records import (
    DEFAULT_ACCOUNT,
    CreatedKey,
    KeyLimits,
    KeyRecord,
    KeyRole,
)
from tandem.coordinator.accounts.sqlite.database import (
    Base,
    database_path,
    open_database,
    revision_of,
)
from tandem.coordinator.accounts.sqlite.problems import session_on
from tandem.coordinator.accounts.sqlite.shares import lenders
from tandem.protocol import Trust
from tandem.security import hash_secret


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
    role: Mapped[str] = mapped_column(default=KeyRole.USER.value)

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
            self.id,
            self.name,
            self.prefix,
            created_at,
            revoked_at,
            self.account,
            limits,
            KeyRole(self.role),
        )


class SQLiteKeys:
    """The keys of one data folder; see `ports.Keys`. Thread-safe."""

    def __init__(self, data_dir: Path) -> None:
        """Raises ConfigurationError for a database that this version cannot read."""
        self._path = database_path(data_dir)
        self._engine = open_database(data_dir)

    async def find(self, secret: str) -> KeyRecord | None:
        return await asyncio.to_thread(self._find, secret)

    def revision(self) -> tuple[int, int]:
        return revision_of(self._path)

    def create(
        self,
        name: str,
        *,
        account: str = DEFAULT_ACCOUNT,
        limits: KeyLimits | None = None,
        role: KeyRole = KeyRole.USER,
    ) -> CreatedKey:
        new = new_key(name, account, limits, role)
        key = _Key(
            name=new.name,
            prefix=new.prefix,
            secret_hash=new.secret_hash,
            created_at=new.created_at,
            account=new.account,
            role=new.role.value,
            **msgspec.structs.asdict(new.limits),
        )
        with session_on(self._engine) as session:
            session.add(key)
            session.commit()
            return CreatedKey(key.id, key.name, new.secret)

    def list(self) -> list[KeyRecord]:
        with session_on(self._engine) as session:
            return [key.record() for key in session.scalars(sa.select(_Key).order_by(_Key.id))]

    def revoke(self, which: str) -> KeyRecord:
        with session_on(self._engine) as session:
            active = list(session.scalars(sa.select(_Key).where(_Key.revoked_at.is_(None))))
            stored = [StoredKey(key.record(), key.secret_hash) for key in active]
            wanted = only_match(stored, which).id
            key = next(key for key in active if key.id == wanted)
            key.revoked_at = datetime.now(UTC)
            session.commit()
            return key.record()

    def close(self) -> None:
        self._engine.dispose()

    def _find(self, secret: str) -> KeyRecord | None:
        query = sa.select(_Key).where(
            _Key.secret_hash == hash_secret(secret), _Key.revoked_at.is_(None)
        )
        with session_on(self._engine) as session:
            key = session.scalar(query)
            if key is None:
                return None
            return msgspec.structs.replace(key.record(), lenders=lenders(session, key.account))
