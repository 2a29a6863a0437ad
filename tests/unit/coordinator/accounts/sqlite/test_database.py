"""The databases of a data folder: what is on disk, and older and newer versions of it."""

from __future__ import annotations

import asyncio
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from tandem.coordinator.accounts.records import KeyLimits, KeyRole
from tandem.coordinator.accounts.sqlite import SQLiteStores
from tandem.coordinator.accounts.sqlite.database import database_path
from tandem.errors import ConfigurationError
from tandem.security import hash_secret


def test_the_secret_is_nowhere_on_disk(tmp_path: Path) -> None:
    stores = SQLiteStores(tmp_path)
    keys, nodes = stores.keys(), stores.nodes()
    _, token = nodes.create_token("alice", lasts=None, uses=None)
    secrets = keys.create("alice").key, token
    keys.close()
    nodes.close()
    for path in tmp_path.iterdir():
        assert not [secret for secret in secrets if secret.encode() in path.read_bytes()]


@pytest.mark.parametrize("there_already", [False, True])
def test_nothing_on_disk_is_anybody_elses(tmp_path: Path, there_already: bool) -> None:
    if there_already:
        keys = SQLiteStores(tmp_path).keys()
        keys.create("alice")
        for path in tmp_path.iterdir():
            path.chmod(0o644)
    stores = SQLiteStores(tmp_path)
    opened = stores.keys(), stores.usage()
    opened[0].create("bob")
    names = {path.name for path in tmp_path.iterdir()}
    assert {"tandem.db", "tandem.db-wal", "tandem.db-shm", "usage.db"} <= names
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}
    for store in opened:
        store.close()


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
        keys = SQLiteStores(tmp_path).keys()
        (old,) = keys.list()
        assert (old.limits, old.role) == (KeyLimits(), KeyRole.USER)
        keys.close()


def test_join_tokens_of_before_let_anybody_in_until_they_are_revoked(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{database_path(tmp_path)}")
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE join_tokens (secret_hash VARCHAR NOT NULL PRIMARY KEY,"
            " account VARCHAR NOT NULL, created_at DATETIME NOT NULL)"
        )
        connection.exec_driver_sql(
            "INSERT INTO join_tokens VALUES (?, 'alice', '2026-01-01 00:00:00')",
            (hash_secret("join-old"),),
        )
        connection.exec_driver_sql("PRAGMA user_version = 1")
    engine.dispose()
    nodes = SQLiteStores(tmp_path).nodes()
    for _ in range(3):
        spent = asyncio.run(nodes.spend("join-old"))
        assert spent is not None
        assert (spent.account, spent.uses_left, spent.expires_at) == ("alice", None, None)
    (listed,) = nodes.tokens()
    nodes.revoke_token(listed.id)
    assert asyncio.run(nodes.spend("join-old")) is None
    nodes.close()


def test_a_database_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    stores = SQLiteStores(tmp_path)
    stores.keys().close()
    engine = sa.create_engine(f"sqlite:///{database_path(tmp_path)}")
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA user_version = 99")
    engine.dispose()
    with pytest.raises(ConfigurationError, match="newer"):
        stores.keys()


def test_another_process_that_comes_and_goes_leaves_the_log_to_those_who_are_open(
    tmp_path: Path,
) -> None:
    """SQLite's locks are the process's: what closes the file once more must not end them."""
    stores = SQLiteStores(tmp_path)
    keys, nodes = stores.keys(), stores.nodes()
    keys.create("ours")
    script = (
        "import sys; from pathlib import Path; from tandem.coordinator import stores_in\n"
        "keys = stores_in(Path(sys.argv[1])).keys(); keys.create('theirs'); keys.close()"
    )
    log = tmp_path / "tandem.db-wal"
    before = log.stat().st_ino
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert log.stat().st_ino == before, "it is the same log that this process writes to"
    nodes.create_token("alice", lasts=None, uses=None)
    keys.close()
    nodes.close()
    again = SQLiteStores(tmp_path).keys()
    assert [key.name for key in again.list()] == ["ours", "theirs"]
    again.close()
