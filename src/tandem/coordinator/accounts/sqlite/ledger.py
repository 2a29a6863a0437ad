"""The usage ledger: one row a request, whatever became of it. No prompts, no answers.

A row is opened at admission and closed once, with the tokens that were delivered; a row that a
crash left open is closed as such when the ledger is opened again. Rows are written by a thread of
the ledger's own, many in one transaction, so that no request waits for the disk.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import Mapped, Session, mapped_column

from tandem.coordinator.accounts.sqlite.database import UsageBase, open_database
from tandem.errors import Overloaded

log = structlog.get_logger(__name__)

COMPLETED, CANCELLED, CRASHED = "completed", "cancelled", "coordinator_crashed"
_OPEN = "open"
#: Rows that may wait for the disk before requests are refused.
_MAX_BACKLOG = 65_536
#: Rows of so long are written together: each transaction takes the interpreter from the event loop.
_GATHER_S = 0.1
_RETRY_S = 1.0
_CLOSE_TIMEOUT_S = 10.0


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One request. Times are seconds from its admission; None for what did not come about.

    `outcome` is `completed`, `cancelled`, or the code of the error that the consumer got.
    """

    request_id: str
    started_at: datetime
    key_id: int | None
    account: str
    model: str
    outcome: str = _OPEN
    provider: str | None = None
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    queue_s: float | None = None
    first_token_s: float | None = None
    total_s: float | None = None


class Total(msgspec.Struct, frozen=True):
    """A sum over rows. `failed` counts those that ended in an error."""

    key_id: int | None
    model: str
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class _Row(UsageBase):
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


class Ledger:
    """The coordinator's: `record` from the event loop, written by a thread until `close`."""

    def __init__(self, data_dir: Path) -> None:
        self._engine = open_database(data_dir, UsageBase)
        with self._engine.begin() as connection:
            crashed = sa.update(_Row).where(_Row.outcome == _OPEN).values(outcome=CRASHED)
            connection.execute(crashed)
        #: Tokens by key, from the rows of earlier runs.
        self.spent = _spent(self._engine)
        self._wake = threading.Condition()
        self._backlog: dict[str, Entry] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="ledger")
        self._thread.start()

    def open(self, entry: Entry) -> None:
        """A request begins. Raises Overloaded while the disk does not keep up."""
        if len(self._backlog) >= _MAX_BACKLOG:
            raise Overloaded("the usage ledger cannot be written: see the coordinator's log")
        self.record(entry)

    def record(self, entry: Entry) -> None:
        """A request's newest state, which replaces what it was until it is closed."""
        with self._wake:
            known = self._backlog.get(entry.request_id)
            if known is None or known.outcome == _OPEN:
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
        statement = insert(_Row)
        columns = {name: statement.excluded[name] for name in Entry.__struct_fields__}
        # A closed row stays as it is: nothing is counted twice.
        upsert = statement.on_conflict_do_update(
            index_elements=["request_id"], set_=columns, where=_Row.outcome == _OPEN
        )
        try:
            with self._engine.begin() as connection:
                connection.execute(upsert, rows)
        except sa.exc.OperationalError as error:
            log.warning("ledger_write_failed", rows=len(rows), reason=str(error.orig))
            return False
        return True


def totals(data_dir: Path, *, since: datetime | None = None) -> list[Total]:
    """Sums by key and model over what is closed, since a time in UTC."""
    engine = open_database(data_dir, UsageBase)
    query = (
        sa.select(
            _Row.key_id,
            _Row.model,
            sa.func.count(),
            sa.func.sum(sa.case((_Row.outcome.in_([COMPLETED, CANCELLED]), 0), else_=1)),
            sa.func.sum(_Row.prompt_tokens),
            sa.func.sum(_Row.completion_tokens),
            sa.func.sum(_Row.cached_tokens),
        )
        .where(_Row.outcome != _OPEN)
        .group_by(_Row.key_id, _Row.model)
        .order_by(_Row.key_id, _Row.model)
    )
    if since is not None:
        query = query.where(_Row.started_at >= since.astimezone(UTC).replace(tzinfo=None))
    try:
        with Session(engine) as session:
            return [Total(*row) for row in session.execute(query)]
    finally:
        engine.dispose()


def entries(data_dir: Path, *, limit: int) -> list[Entry]:
    """The newest rows, newest first, those under way too."""
    engine = open_database(data_dir, UsageBase)
    query = sa.select(_Row).order_by(_Row.started_at.desc()).limit(limit)
    try:
        with Session(engine) as session:
            return [_entry(row) for row in session.scalars(query)]
    finally:
        engine.dispose()


def _entry(row: _Row) -> Entry:
    fields = {name: getattr(row, name) for name in Entry.__struct_fields__}
    return Entry(**(fields | {"started_at": row.started_at.replace(tzinfo=UTC)}))


def _spent(engine: sa.Engine) -> dict[int, int]:
    used = sa.func.sum(_Row.prompt_tokens + _Row.completion_tokens)
    query = sa.select(_Row.key_id, used).group_by(_Row.key_id)
    with engine.connect() as connection:
        rows = connection.execute(query)
        return {key_id: int(total) for key_id, total in rows if key_id is not None}
