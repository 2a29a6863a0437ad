"""The coordinator's databases: SQLite files in its data folder, with the newest schema.

Keys and usage have a file each: keys are looked up again whenever their file has changed, and usage
changes all the time.

Synchronous, for the command line and for the coordinator's worker threads.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase

from tandem.coordinator.accounts.sqlite.problems import in_words
from tandem.errors import ConfigurationError

#: How long a writer waits for another process's transaction.
_BUSY_TIMEOUT_S = 10.0
#: The columns that make a database of version n one of n + 1; tables that are new are made whole.
_UPGRADES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "api_keys",
        (
            "account VARCHAR NOT NULL DEFAULT 'default'",
            "requests_per_minute INTEGER",
            "tokens_per_minute INTEGER",
            "concurrent INTEGER",
            "budget_tokens INTEGER",
            "min_trust VARCHAR NOT NULL DEFAULT 'none'",
        ),
    ),
    ("api_keys", ("role VARCHAR NOT NULL DEFAULT 'user'",)),
    # Tokens of before let in any number of machines for ever, until they are revoked.
    ("join_tokens", ("expires_at DATETIME", "uses_left INTEGER", "revoked_at DATETIME")),
)


class Base(DeclarativeBase):
    """The tables of keys and join tokens."""


class UsageBase(DeclarativeBase):
    """The tables of the ledger."""


Tables = type[Base] | type[UsageBase]


def database_path(data_dir: Path, tables: Tables = Base) -> Path:
    return data_dir / ("tandem.db" if tables is Base else "usage.db")


def open_database(data_dir: Path, tables: Tables = Base) -> sa.Engine:
    """An engine on one of the folder's databases, made or upgraded. Raises ConfigurationError."""
    path = database_path(data_dir, tables)
    engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": _BUSY_TIMEOUT_S})
    sa.event.listen(engine, "connect", _set_up_connection)
    _create_private(path)
    with in_words(path), engine.begin() as connection:
        # One process at a time from here on: two that start at once upgrade once.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        _upgrade(connection, path)
        tables.metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {len(_UPGRADES)}")
    return engine


def _create_private(path: Path) -> None:
    """The files that SQLite puts beside it get the modes that it has by then.

    One that is there is never opened here: to close it would end the locks that this process has on
    it by other connections, and another process would then take away the log under them.
    """
    with suppress(OSError):  # what SQLite says when it opens it tells more
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        for suffix in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).chmod(0o600)


def revision_of(path: Path) -> tuple[int, int]:
    """The state of a database's write-ahead log, to which every commit adds: costs one `stat`.

    Its times are as coarse as the file system's: a change may be seen a moment late.
    """
    try:
        status = path.with_name(f"{path.name}-wal").stat()
    except OSError:  # what is wrong, if anything, the next lookup says
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _upgrade(connection: sa.Connection, path: Path) -> None:
    version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    if version > len(_UPGRADES):
        raise ConfigurationError(f"{path} is of a newer Tandem: update this one")
    tables = sa.inspect(connection).get_table_names()
    for table, columns in _UPGRADES[version:]:
        for column in columns if table in tables else ():
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN {column}")


def _set_up_connection(connection: sa.engine.interfaces.DBAPIConnection, _: object) -> None:
    cursor = connection.cursor()
    # Readers never wait for a writer, and a commit survives a crash of the process.
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
