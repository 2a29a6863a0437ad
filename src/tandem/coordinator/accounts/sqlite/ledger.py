"""The ledger in SQLite: one row a request, whatever became of it.

A row is opened at admission and closed once, with the tokens that were delivered; a row that a
crash left open is closed as such when the ledger is opened again. Rows are written by a thread of
the ledger's own, many in one transaction, so that no request waits for the disk. While the disk
is full or the file damaged, rows wait in memory, and service goes on.
"""

from __future__ import annotations

import os
import threading
from datetime import datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import InstrumentedAttribute, Mapped, mapped_column

from tandem.coordinator.accounts.records import CRASHED, OPEN, Entry, LedgerHealth
from tandem.coordinator.accounts.sqlite.database import UsageBase, database_path, open_database
from tandem.errors import ConfigurationError, Overloaded

log = structlog.get_logger(__name__)

#: Rows that may wait for the disk before requests are refused.
_MAX_BACKLOG = 65_536
#: Rows of so long are written together: each transaction takes the interpreter from the event loop.
_GATHER_S = 0.1
_RETRY_S = 1.0
_CLOSE_TIMEOUT_S = 10.0
#: No request has more of anything: sums of four billion rows stay within SQLite's integers.
_MOST_COUNTED = 2**31 - 1
_COUNTS = ("attempts", "prompt_tokens", "completion_tokens", "cached_tokens")
#: What a SQLite database begins with.
_MAGIC = b"SQLite format 3\0"


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
        self._table = _Table(data_dir)
        #: Tokens by key, from the rows of earlier runs.
        self.spent = self._table.spent()
        self._wake = threading.Condition()
        self._backlog: dict[str, Entry] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="ledger")
        self._thread.start()

    @property
    def health(self) -> LedgerHealth:
        return LedgerHealth(len(self._backlog), self._table.set_aside, self._table.problem)

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
        if self._backlog or self._thread.is_alive():
            log.error("ledger_not_written", rows=len(self._backlog))
        self._table.close()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not (self._backlog or self._closing):
                    self._wake.wait()
                if not self._closing:
                    self._wake.wait_for(lambda: self._closing, _GATHER_S)
                batch, self._backlog = self._backlog, {}
                last = self._closing
            left = self._table.write(batch)
            with self._wake:
                self._backlog = left | self._backlog
                if last and (left or not self._backlog):
                    return  # `close` says what was lost
                if left:
                    self._wake.wait_for(lambda: self._closing, _RETRY_S)


class _Table:
    """The rows on the disk, and whatever may happen to them. Used by one thread at a time."""

    def __init__(self, data_dir: Path) -> None:
        self.set_aside = 0
        self.problem: str | None = None
        self._data_dir = data_dir
        self._path = database_path(data_dir, UsageBase)
        self._engine = open_database(data_dir, UsageBase)
        self._file, self._descriptor = _look_at(self._path)
        with self._engine.begin() as connection:
            crashed = sa.update(Row).where(Row.outcome == OPEN).values(outcome=CRASHED)
            connection.execute(crashed)

    def spent(self) -> dict[int, int]:
        """Tokens by key."""
        used = sa.func.sum(counted(Row.prompt_tokens) + counted(Row.completion_tokens))
        query = sa.select(Row.key_id, used).group_by(Row.key_id)
        with self._engine.connect() as connection:
            rows = connection.execute(query)
            return {key_id: int(total) for key_id, total in rows if key_id is not None}

    def write(self, batch: dict[str, Entry]) -> dict[str, Entry]:
        """Keeps a batch, but for what it returns, which is to be tried again.

        What can never be kept is set aside: nothing that a row holds costs another row, and
        nothing at all ends the thread.
        """
        if not batch:
            return batch
        try:
            self._follow_file()
            self._insert(batch)
        except Exception as error:  # noqa: BLE001 - said and counted, and the thread lives
            if _is_of_the_disk(error):
                self._cannot(error)
                return batch
            return self._write_halves(batch, error)
        if self.problem is not None:
            log.info("ledger_written_again", rows=len(batch))
        self.problem = None
        return {}

    def close(self) -> None:
        self._engine.dispose()
        self._look_away()

    def _write_halves(self, batch: dict[str, Entry], error: Exception) -> dict[str, Entry]:
        """One of the rows cannot be kept: the others are."""
        if len(batch) == 1:
            self.set_aside += 1
            (request_id,) = batch
            log.error("ledger_row_set_aside", request_id=request_id, reason=repr(error))
            return {}
        rows = list(batch.items())
        middle = len(rows) // 2
        return self.write(dict(rows[:middle])) | self.write(dict(rows[middle:]))

    def _insert(self, batch: dict[str, Entry]) -> None:
        statement = insert(Row)
        columns = {name: statement.excluded[name] for name in Entry.__struct_fields__}
        # A closed row stays as it is: nothing is counted twice.
        upsert = statement.on_conflict_do_update(
            index_elements=["request_id"], set_=columns, where=Row.outcome == OPEN
        )
        with self._engine.begin() as connection:
            connection.execute(upsert, list(map(_values, batch.values())))

    def _follow_file(self) -> None:
        """Opens the database again when another file has its name, or it failed before.

        Raises OSError, ConfigurationError or SQLAlchemy's errors for one that is damaged.
        """
        try:
            there = self._path.stat().st_ino
        except FileNotFoundError:
            there = None
        if there == self._file and self._is_damaged():
            raise OSError(f"{self._path.name} is damaged: it is no SQLite database any more")
        if there != self._file or self.problem is not None:
            if there is None:
                log.error("ledger_file_gone", path=str(self._path), then="a new one is begun")
            self._engine.dispose()
            self._look_away()
            self._engine = open_database(self._data_dir, UsageBase)
            self._file, self._descriptor = _look_at(self._path)

    def _is_damaged(self) -> bool:
        if self._descriptor is None:
            return False  # what it is like is seen when it is opened
        return os.pread(self._descriptor, len(_MAGIC), 0) != _MAGIC

    def _look_away(self) -> None:
        """Only once no connection has the file open."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _cannot(self, error: Exception) -> None:
        reason = str(error.orig) if isinstance(error, sa.exc.DBAPIError) else str(error)
        if self.problem is None:
            log.error("ledger_write_failed", reason=reason, then="rows wait in memory")
        self.problem = f"the usage ledger cannot be written: {reason}"


def counted(column: InstrumentedAttribute[int]) -> sa.ColumnElement[int]:
    """A count as it may be summed up, whatever an older version took for one."""
    return sa.func.min(sa.func.max(column, 0), _MOST_COUNTED)


def _values(entry: Entry) -> dict[str, object]:
    values = msgspec.structs.asdict(entry)
    for name in _COUNTS:
        values[name] = min(max(values[name], 0), _MOST_COUNTED)
    return values


def _look_at(path: Path) -> tuple[int, int | None]:
    """A database's file, and a descriptor to look at it by, which stays open.

    Closed, it would end the locks that this process has on the file by its connections, and another
    process would take the log away under them.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return os.fstat(descriptor).st_ino, descriptor


def _is_of_the_disk(error: Exception) -> bool:
    """Whether it says nothing about what was to be written: full, locked, damaged, gone."""
    if isinstance(error, sa.exc.DBAPIError):
        return type(error) in (sa.exc.OperationalError, sa.exc.DatabaseError)
    return isinstance(error, OSError | MemoryError | ConfigurationError)
