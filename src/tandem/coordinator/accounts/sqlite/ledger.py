"""The ledger in SQLite: one row a request, whatever became of it.

A row is opened at admission and closed once, with the tokens that were delivered; a row that a
crash left open is closed as such when the ledger is opened again. Rows are written by a thread of
the ledger's own, many in one transaction, so that no request waits for the disk.
"""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import Mapped, mapped_column

from tandem.coordinator.accounts.records import CRASHED, OPEN, Entry
from tandem.coordinator.accounts.sqlite.database import UsageBase, open_database
from tandem.errors import Overloaded

log = structlog.get_logger(__name__)

#: Rows that may wait for the disk before requests are refused.
_MAX_BACKLOG = 65_536
#: Rows of so long are written together: each transaction takes the interpreter from the event loop.
_GATHER_S = 0.1
_RETRY_S = 1.0
_CLOSE_TIMEOUT_S = 10.0


class Row(UsageBase):
    __tablename__ = "usage"

    request_id: Mapped[str] = mapped_column(primary_key=True)
    started_at: Mapped[datetime] = mapped_column(index=True)
    key_id: Mapped[int | None] = mapped_column(index=True)
    account: Mapped[str]
    model: Mapped[str]
    outcome: Mapped[str] = mapped_column(index=True)
    provider: Mapped[str | None]
    attempts: Mapped[int]
    prompt_tokens: Mapped[int]
    completion_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    queue_s: Mapped[float | None]
    first_token_s: Mapped[float | None]
    total_s: Mapped[float | None]


class SQLiteLedger:
    """The usage of one data folder; see `ports.Ledger`. Thread-safe."""

    def __init__(self, data_dir: Path) -> None:
        self._engine = open_database(data_dir, UsageBase)
        with self._engine.begin() as connection:
            crashed = sa.update(Row).where(Row.outcome == OPEN).values(outcome=CRASHED)
            connection.execute(crashed)
        #: Tokens by key, from the rows of earlier runs.
        self.spent = _spent(self._engine)
        self._wake = threading.Condition()
        self._backlog: dict[str, Entry] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="ledger")
        self._thread.start()

    def open(self, entry: Entry) -> None:
        if len(self._backlog) >= _MAX_BACKLOG:
            raise Overloaded("the usage ledger cannot be written: see the coordinator's log")
        self.record(entry)

    def record(self, entry: Entry) -> None:
        with self._wake:
            waiting = self._backlog.get(entry.request_id)
            if waiting is None or waiting.outcome == OPEN:
                if not self._backlog:
                    self._wake.notify()
                self._backlog[entry.request_id] = entry

    def close(self) -> None:
        """Writes what is left, and ends the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(_CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            log.error("ledger_not_written", rows=len(self._backlog))
        self._engine.dispose()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._backlog or self._closing):
                    self._wake.wait()
                if not self._closing:
                    self._wake.wait_for(lambda: self._closing, _GATHER_S)
                batch, self._backlog = self._backlog, {}
                last = self._closing
            if batch and not self._write(batch):
                with self._wake:
                    self._backlog = batch | self._backlog
                    if self._closing:
                        return  # `close` says what was lost
                    self._wake.wait(_RETRY_S)
                continue
            if last and not self._backlog:
                return

    def _write(self, batch: dict[str, Entry]) -> bool:
        rows = [msgspec.structs.asdict(entry) for entry in batch.values()]
        statement = insert(Row)
        columns = {name: statement.excluded[name] for name in Entry.__struct_fields__}
        # A closed row stays as it is: nothing is counted twice.
        upsert = statement.on_conflict_do_update(
            index_elements=["request_id"], set_=columns, where=Row.outcome == OPEN
        )
        try:
            with self._engine.begin() as connection:
                connection.execute(upsert, rows)
        except sa.exc.OperationalError as error:
            log.warning("ledger_write_failed", rows=len(rows), reason=str(error.orig))
            return False
        return True


def _spent(engine: sa.Engine) -> dict[int, int]:
    used = sa.func.sum(Row.prompt_tokens + Row.completion_tokens)
    query = sa.select(Row.key_id, used).group_by(Row.key_id)
    with engine.connect() as connection:
        rows = connection.execute(query)
        return {key_id: int(total) for key_id, total in rows if key_id is not None}
