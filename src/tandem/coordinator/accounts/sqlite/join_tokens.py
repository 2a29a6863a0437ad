"""Join tokens in SQLite, by their hashes."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, Session, mapped_column

from tandem.coordinator.accounts.issuing import check_account
from tandem.coordinator.accounts.sqlite.database import Base, open_database
from tandem.coordinator.accounts.sqlite.problems import session_on
from tandem.security import hash_secret, new_join_token


class _JoinToken(Base):
    __tablename__ = "join_tokens"

    secret_hash: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str]
    created_at: Mapped[datetime]


class SQLiteJoinTokens:
    """The tokens of one data folder; see `ports.JoinTokens`."""

    def __init__(self, data_dir: Path) -> None:
        self._engine = open_database(data_dir)

    async def account_of(self, token: str) -> str | None:
        return await asyncio.to_thread(self._find, token)

    def create(self, account: str) -> str:
        check_account(account)
        token = new_join_token()
        with session_on(self._engine) as session:
            session.add(
                _JoinToken(
                    secret_hash=hash_secret(token), account=account, created_at=datetime.now(UTC)
                )
            )
            session.commit()
        return token

    def close(self) -> None:
        self._engine.dispose()

    def _find(self, token: str) -> str | None:
        query = sa.select(_JoinToken.account).where(_JoinToken.secret_hash == hash_secret(token))
        with Session(self._engine) as session:
            return session.scalar(query)
