"""Which accounts share their machines with which, in SQLite."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, Session, mapped_column

from tandem.coordinator.accounts.issuing import check_share
from tandem.coordinator.accounts.records import EVERYONE, Share
from tandem.coordinator.accounts.sqlite.database import Base, open_database
from tandem.coordinator.accounts.sqlite.problems import session_on
from tandem.errors import ConfigurationError


class _Share(Base):
    __tablename__ = "shares"

    owner: Mapped[str] = mapped_column(primary_key=True)
    borrower: Mapped[str] = mapped_column(primary_key=True)


class SQLiteShares:
    """The shares of one data folder; see `ports.Shares`."""

    def __init__(self, data_dir: Path) -> None:
        self._engine = open_database(data_dir)

    def share(self, share: Share) -> None:
        check_share(share)
        with session_on(self._engine) as session:
            session.merge(_Share(owner=share.owner, borrower=share.borrower))
            session.commit()

    def unshare(self, share: Share) -> None:
        with session_on(self._engine) as session:
            found = session.get(_Share, (share.owner, share.borrower))
            if found is None:
                raise ConfigurationError(
                    f"{share.owner!r} does not share its machines with {share.borrower!r}:"
                    " see `tandem accounts list`"
                )
            session.delete(found)
            session.commit()

    def list(self) -> list[Share]:
        query = sa.select(_Share).order_by(_Share.owner, _Share.borrower)
        with session_on(self._engine) as session:
            return [Share(row.owner, row.borrower) for row in session.scalars(query)]

    def close(self) -> None:
        self._engine.dispose()


def lenders(session: Session, account: str) -> frozenset[str]:
    """The accounts that share their machines with this one."""
    query = sa.select(_Share.owner).where(_Share.borrower.in_([account, EVERYONE]))
    return frozenset(session.scalars(query))
