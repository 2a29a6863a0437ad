"""What is wrong with a database, in a sentence with the way out."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from tandem.errors import ConfigurationError

#: What is lost with each file.
_LOST = {
    "tandem.db": "keys and join tokens must then be made again",
    "usage.db": "what was used so far is then forgotten, and counts for no budget",
}
_DAMAGED = (
    "is damaged: stop Tandem and put a copy back, or move the file aside, so that a new one is "
    "begun; {lost}"
)
_NO_ROOM = "cannot be written: make room on its disk, and see that it is sound"
_NOT_OURS = (
    "cannot be written: make it writable for this user, or name another folder with --data-dir"
)
_HELD = "is held by another program: try again when that has ended"
#: Words of SQLite, and what they mean for whoever runs Tandem; the first that is found counts.
_WAYS_OUT = {
    "malformed": _DAMAGED,
    "not a database": _DAMAGED,
    "corrupt": _DAMAGED,
    "is full": _NO_ROOM,
    "disk I/O": _NO_ROOM,
    "readonly": _NOT_OURS,
    "unable to open": _NOT_OURS,
    "locked": _HELD,
}


@contextmanager
def in_words(path: Path) -> Iterator[None]:
    """Raises ConfigurationError for what says nothing about the statement, but of file and disk."""
    try:
        yield
    except (sa.exc.DBAPIError, sqlite3.DatabaseError) as error:
        original = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        if type(original) not in (sqlite3.OperationalError, sqlite3.DatabaseError):
            raise
        raise ConfigurationError(f"{path} {_way_out(path, str(original))}") from error


@contextmanager
def session_on(engine: sa.Engine) -> Iterator[Session]:
    """A session whose failures are sentences."""
    with in_words(Path(engine.url.database or "")), Session(engine) as session:
        yield session


def _way_out(path: Path, reason: str) -> str:
    found = (way_out for words, way_out in _WAYS_OUT.items() if words in reason)
    return f"{next(found, 'cannot be used').format(lost=_LOST[path.name])} ({reason})"
