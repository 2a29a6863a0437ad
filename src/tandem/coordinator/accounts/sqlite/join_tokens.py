"""The secrets that providers join with: one in the data folder, more for other accounts."""

from __future__ import annotations

import asyncio
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, Session, mapped_column

from tandem.coordinator.accounts.sqlite.database import Base, open_database
from tandem.coordinator.accounts.sqlite.keys import DEFAULT_ACCOUNT
from tandem.errors import ConfigurationError
from tandem.security import hash_secret, new_join_token, same_secret

_FILE = "join-token"


class _JoinToken(Base):
    __tablename__ = "join_tokens"

    secret_hash: Mapped[str] = mapped_column(primary_key=True)
    account: Mapped[str]
    created_at: Mapped[datetime]


class JoinTokens:
    """Whose machine a join token lets in. `close` releases the database."""

    def __init__(self, data_dir: Path, default_token: str) -> None:
        self._default = default_token
        self._engine = open_database(data_dir)

    async def account_of(self, token: str) -> str | None:
        """The account that a token belongs to; None for a token that is none."""
        if same_secret(token, self._default):
            return DEFAULT_ACCOUNT
        return await asyncio.to_thread(self._find, token)

    def create(self, account: str) -> str:
        """A new token for an account's machines. Raises ConfigurationError without a name."""
        if not account.strip():
            raise ConfigurationError("an account needs a name")
        token = new_join_token()
        with Session(self._engine) as session:
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


def load_or_create_join_token(data_dir: Path) -> str:
    """The folder's join token, made on first use in a file that only its owner can read.

    Raises ConfigurationError when the file is there but empty.
    """
    path = data_dir / _FILE
    draft = data_dir / f".{_FILE}.{secrets.token_hex(4)}"
    if not path.exists():
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(new_join_token() + "\n")
        try:
            os.link(draft, path)  # complete from the moment it exists, and never replaced
        except FileExistsError:
            pass  # another process was first: its token counts
        finally:
            draft.unlink()
    token = path.read_text().strip()
    if not token:
        raise ConfigurationError(f"{path} is empty: remove it, and a new join token is made")
    return token
