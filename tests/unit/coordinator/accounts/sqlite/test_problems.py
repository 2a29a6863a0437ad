"""Damaged, full, read-only and locked databases: each is a sentence with the way out."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tandem.coordinator.accounts.sqlite import SQLiteStores, database
from tandem.errors import ConfigurationError

OPEN: dict[str, Callable[[Path], object]] = {
    "tandem.db": lambda folder: SQLiteStores(folder).keys(),
    "usage.db": lambda folder: SQLiteStores(folder).usage(),
}
LOST = {"tandem.db": "keys and join tokens must then be made again", "usage.db": "forgotten"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder with a key in it."""
    stores = SQLiteStores(tmp_path)
    keys, usage = stores.keys(), stores.usage()
    keys.create("alice")
    keys.close()
    usage.close()
    return tmp_path


@pytest.fixture
def at_connect() -> Iterator[Callable[[str], None]]:
    """Has every connection begin with a statement."""
    listeners: list[Callable[..., None]] = []

    def add(statement: str) -> None:
        def run(connection: sqlite3.Connection, _: object) -> None:
            connection.execute(statement)

        listeners.append(run)
        sa.event.listen(sa.Engine, "connect", run)

    yield add
    for listener in listeners:
        sa.event.remove(sa.Engine, "connect", listener)


def _garbage(path: Path) -> None:
    path.write_bytes(b"not a database at all" * 500)


def _garbage_after_the_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\x05" * (len(content) - 100))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


@pytest.mark.parametrize("damage", [_garbage, _garbage_after_the_header, _cut])
@pytest.mark.parametrize("name", OPEN)
def test_damage_is_named_with_the_way_out(
    folder: Path, name: str, damage: Callable[[Path], None]
) -> None:
    for left in folder.glob("*.db-*"):
        left.unlink()
    damage(folder / name)
    with pytest.raises(ConfigurationError) as caught:
        OPEN[name](folder)
    for words in (str(folder / name), "is damaged", "move the file aside", LOST[name]):
        assert words in caught.value.message


def test_moved_aside_it_begins_anew(folder: Path) -> None:
    _garbage(folder / "tandem.db")
    for file in folder.glob("tandem.db*"):
        file.rename(file.with_name(f"old-{file.name}"))
    keys = SQLiteStores(folder).keys()
    assert keys.list() == []
    keys.close()


def test_damage_that_is_met_later_is_named_too(folder: Path) -> None:
    keys = SQLiteStores(folder).keys()
    keys.close()
    with sqlite3.connect(folder / "tandem.db") as connection:
        (page,) = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'api_keys'"
        ).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    connection.close()
    with (folder / "tandem.db").open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\x05" * size)
    keys = SQLiteStores(folder).keys()
    with pytest.raises(ConfigurationError, match=r"tandem\.db is damaged"):
        keys.list()
    keys.close()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("PRAGMA max_page_count = 1", "make room on its disk"),
        ("PRAGMA query_only = ON", "--data-dir"),
    ],
)
def test_a_full_and_a_read_only_disk_are_named(
    tmp_path: Path, at_connect: Callable[[str], None], statement: str, words: str
) -> None:
    at_connect(statement)
    with pytest.raises(ConfigurationError, match=rf"tandem\.db cannot be written: .*{words}"):
        SQLiteStores(tmp_path).keys()


def test_a_folder_in_its_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "usage.db").mkdir()
    with pytest.raises(ConfigurationError, match=r"usage\.db cannot be written"):
        SQLiteStores(tmp_path).usage()


def test_another_program_that_holds_it_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_BUSY_TIMEOUT_S", 0.0)
    with sqlite3.connect(folder / "tandem.db") as holder:
        holder.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigurationError, match="held by another program"):
            SQLiteStores(folder).keys()
    holder.close()


def test_a_database_that_is_damaged_while_it_is_open_is_a_sentence_too(folder: Path) -> None:
    keys = SQLiteStores(folder).keys()
    keys.close()  # and opened anew by the next lookup
    _garbage(folder / "tandem.db")
    with pytest.raises(ConfigurationError, match="is damaged"):
        asyncio.run(keys.find("sk-tandem-x"))
    keys.close()
