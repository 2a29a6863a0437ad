"""What the ledger holds in SQLite, for reading: sums, and the newest rows."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from tandem.coordinator.accounts.records import CANCELLED, COMPLETED, OPEN, Entry, Total
from tandem.coordinator.accounts.sqlite.database import UsageBase, open_database
from tandem.coordinator.accounts.sqlite.ledger import Row, counted
from tandem.coordinator.accounts.sqlite.problems import session_on


class SQLiteUsage:
    """The usage of one data folder; see `ports.Usage`."""

    def __init__(self, data_dir: Path) -> None:
        self._engine = open_database(data_dir, UsageBase)

    def totals(self, *, since: datetime | None = None) -> list[Total]:
        query = (
            sa.select(
                Row.key_id,
                Row.model,
                sa.func.count(),
                sa.func.sum(sa.case((Row.outcome.in_([COMPLETED, CANCELLED]), 0), else_=1)),
                sa.func.sum(counted(Row.prompt_tokens)),
                sa.func.sum(counted(Row.completion_tokens)),
                sa.func.sum(counted(Row.cached_tokens)),
            )
            .where(Row.outcome != OPEN)
            .group_by(Row.key_id, Row.model)
            .order_by(Row.key_id, Row.model)
        )
        if since is not None:
            query = query.where(Row.started_at >= since.astimezone(UTC).replace(tzinfo=None))
        with session_on(self._engine) as session:
            return [Total(*row) for row in session.execute(query)]

    def entries(self, *, limit: int) -> list[Entry]:
        query = sa.select(Row).order_by(Row.started_at.desc()).limit(limit)
        with session_on(self._engine) as session:
            return [_entry(row) for row in session.scalars(query)]

    def close(self) -> None:
        self._engine.dispose()


def _entry(row: Row) -> Entry:
    fields = {name: getattr(row, name) for name in Entry.__struct_fields__}
    return Entry(**(fields | {"started_at": row.started_at.replace(tzinfo=UTC)}))
