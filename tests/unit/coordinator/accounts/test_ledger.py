"""One row a request, written once, whatever happens to the process."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from tandem.coordinator.accounts.sqlite.database import database_path
from tandem.coordinator.accounts.sqlite.keys import KeyLimits, KeyStore
from tandem.coordinator.accounts.sqlite.ledger import (
    CANCELLED,
    COMPLETED,
    CRASHED,
    Entry,
    Ledger,
    entries,
    totals,
)
from tandem.errors import ConfigurationError


def entry(name: str, key_id: int | None = 1, **more: object) -> Entry:
    opened = Entry(
        request_id=name, started_at=datetime.now(UTC), key_id=key_id, account="default", model="m"
    )
    return msgspec.structs.replace(opened, **more)


def closed(opened: Entry, outcome: str = COMPLETED, tokens: int = 5) -> Entry:
    return msgspec.structs.replace(
        opened, outcome=outcome, prompt_tokens=10, completion_tokens=tokens
    )


def test_a_request_is_one_row_and_counts_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number in range(200):
        opened = entry(f"r{number}")
        ledger.open(opened)
        ledger.record(closed(opened, CANCELLED if number % 2 else COMPLETED))
        if number % 3 == 0:
            ledger.record(closed(opened, tokens=10**6))  # said twice: the first word counts
    ledger.close()
    ledger = Ledger(tmp_path)  # a row that is closed stays closed, over restarts too
    ledger.record(closed(entry("r1"), tokens=10**6))
    ledger.close()
    (total,) = totals(tmp_path)
    assert (total.requests, total.failed) == (200, 0)
    assert total.prompt_tokens == 2000
    assert total.completion_tokens == 1000


def test_sums_are_by_key_and_model_and_time(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number, key_id in enumerate([1, 1, 2, None]):
        ledger.record(closed(entry(f"r{number}", key_id)))
    ledger.record(closed(entry("failed", 2), "provider_lost"))
    ledger.close()
    assert [(t.key_id, t.requests, t.failed) for t in totals(tmp_path)] == [
        (None, 1, 0),
        (1, 2, 0),
        (2, 2, 1),
    ]
    assert totals(tmp_path, since=datetime.now(UTC) + timedelta(hours=1)) == []
    again = Ledger(tmp_path)  # it knows what was spent
    assert again.spent == {1: 30, 2: 30}
    again.close()


def test_a_crash_leaves_a_row_that_says_so(tmp_path: Path) -> None:
    """The process is killed with one request closed and one under way."""
    script = f"""
import os, time
from pathlib import Path
from tests.unit.coordinator.accounts.test_ledger import closed, entry
from tandem.coordinator.accounts.sqlite.ledger import Ledger, entries
ledger = Ledger(Path({str(tmp_path)!r}))
ledger.open(entry("open"))
ledger.record(entry("open", prompt_tokens=10, completion_tokens=4))
ledger.record(closed(entry("done")))
while len(entries(Path({str(tmp_path)!r}), limit=9)) < 2:
    pass
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    Ledger(tmp_path).close()
    found = {row.request_id: row for row in entries(tmp_path, limit=9)}
    assert {name: row.outcome for name, row in found.items()} == {
        "open": CRASHED,
        "done": COMPLETED,
    }
    assert found["open"].completion_tokens == 4, "what was delivered by then is known"


def test_a_database_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{database_path(tmp_path)}")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE api_keys (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR NOT NULL,"
            " prefix VARCHAR NOT NULL, secret_hash VARCHAR NOT NULL UNIQUE,"
            " created_at DATETIME NOT NULL, revoked_at DATETIME)"
        )
        connection.exec_driver_sql(
            "INSERT INTO api_keys VALUES (1, 'old', 'sk', 'hash', '2026-01-01 00:00:00', NULL)"
        )
    engine.dispose()
    for _ in range(2):
        store = KeyStore(tmp_path)
        assert store.list()[0].limits == KeyLimits()
        store.close()


def test_a_database_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    KeyStore(tmp_path).close()
    engine = sa.create_engine(f"sqlite:///{database_path(tmp_path)}")
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 99")
    engine.dispose()
    with pytest.raises(ConfigurationError, match="newer"):
        KeyStore(tmp_path)
