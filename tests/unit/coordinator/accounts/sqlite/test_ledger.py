"""One row a request, whatever happens to the process and to the disk."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from tests.support.stores import ledger_entries
from tests.support.waiting import until

from tandem.coordinator.accounts.records import COMPLETED, CRASHED, OPEN, Entry
from tandem.coordinator.accounts.sqlite import ledger as module
from tandem.coordinator.accounts.sqlite.ledger import SQLiteLedger
from tandem.coordinator.accounts.sqlite.usage import SQLiteUsage


def entry(name: str, **more: object) -> Entry:
    opened = Entry(
        request_id=name, started_at=datetime.now(UTC), key_id=1, account="default", model="m"
    )
    return msgspec.structs.replace(opened, **more)


def test_a_crash_leaves_a_row_that_says_so(tmp_path: Path) -> None:
    """The process is killed with one request closed and one under way."""
    script = f"""
import os
from pathlib import Path
from tests.support.stores import ledger_entries
from tests.unit.coordinator.accounts.sqlite.test_ledger import entry
from tandem.coordinator.accounts.records import COMPLETED
from tandem.coordinator.accounts.sqlite.ledger import SQLiteLedger
folder = Path({str(tmp_path)!r})
ledger = SQLiteLedger(folder)
ledger.open(entry("open"))
ledger.record(entry("open", prompt_tokens=10, completion_tokens=4))
ledger.record(entry("done", outcome=COMPLETED))
while len(ledger_entries(folder, limit=9)) < 2:
    pass
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    SQLiteLedger(tmp_path).close()
    found = {row.request_id: row for row in ledger_entries(tmp_path, limit=9)}
    assert {name: row.outcome for name, row in found.items()} == {
        "open": CRASHED,
        "done": COMPLETED,
    }
    assert found["open"].completion_tokens == 4, "what was delivered by then is known"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    monkeypatch.setattr(module, "_GATHER_S", 0.01)


def outcomes(folder: Path) -> dict[str, str]:
    return {row.request_id: row.outcome for row in ledger_entries(folder, limit=999)}


def test_a_count_that_is_none_is_kept_within_bounds_and_sums_stay_sums(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path)
    for number, tokens in enumerate([2**63, 2**62, -5, 10**30, 7]):
        ledger.record(entry(f"{number}", outcome=COMPLETED, prompt_tokens=tokens))
    ledger.close()
    assert ledger.health.set_aside == 0
    found = {row.request_id: row.prompt_tokens for row in ledger_entries(tmp_path, limit=9)}
    most = 2**31 - 1
    assert found == {"0": most, "1": most, "2": 0, "3": most, "4": 7}
    again = SQLiteLedger(tmp_path)
    again.close()
    assert again.spent == {1: 3 * most + 7}


def test_what_an_older_version_has_written_does_not_keep_it_from_opening(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path)
    for number in range(3):
        ledger.record(entry(f"{number}", outcome=COMPLETED, prompt_tokens=1))
    ledger.close()
    with sqlite3.connect(tmp_path / "usage.db") as database:
        database.execute("UPDATE usage SET prompt_tokens = ?", (2**63 - 1,))
    opened = SQLiteLedger(tmp_path)
    opened.close()
    assert opened.spent == {1: 3 * (2**31 - 1)}
    usage = SQLiteUsage(tmp_path)
    assert usage.totals()[0].prompt_tokens == 3 * (2**31 - 1)
    usage.close()


@pytest.mark.parametrize("bad", ["first", "last", "alone", "several"])
def test_a_row_that_cannot_be_kept_costs_no_other_row(tmp_path: Path, bad: str) -> None:
    ledger = SQLiteLedger(tmp_path)
    ledger.record(entry("before", outcome=COMPLETED))
    until(lambda: "before" in outcomes(tmp_path))
    # No column takes a list: what is wrong with the next row nobody knows today.
    wrong = {"first": {0}, "last": {29}, "alone": {0}, "several": {3, 4, 17}}[bad]
    count = 1 if bad == "alone" else 30
    for number in range(count):
        model = ["no name"] if number in wrong else "m"
        ledger.record(entry(f"{number}", outcome=COMPLETED, model=model))
    until(lambda: ledger.health.set_aside == len(wrong))
    ledger.record(entry("after", outcome=COMPLETED))
    ledger.close()
    kept = {f"{number}" for number in range(count) if number not in wrong}
    assert outcomes(tmp_path).keys() == {"before", "after"} | kept
    assert ledger.health.set_aside == len(wrong)
    assert ledger.health.problem is None


def test_while_the_file_is_damaged_rows_wait_and_are_written_once_it_is_whole(
    tmp_path: Path,
) -> None:
    ledger, path = SQLiteLedger(tmp_path), tmp_path / "usage.db"
    ledger.open(entry("under way"))
    ledger.record(entry("before", outcome=COMPLETED))
    until(lambda: len(outcomes(tmp_path)) == 2)
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(path, tmp_path / "backup")
    path.write_bytes(b"garbage" * 10_000)
    ledger.record(entry("meanwhile", outcome=COMPLETED))
    until(lambda: ledger.health.problem is not None)
    assert "damaged" in (ledger.health.problem or "")
    ledger.open(entry("still served"))
    until(lambda: ledger.health.waiting == 2)
    for name in ("usage.db-wal", "usage.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup", path)
    until(lambda: ledger.health.problem is None)
    ledger.close()
    assert outcomes(tmp_path) == {
        "under way": OPEN,
        "before": COMPLETED,
        "meanwhile": COMPLETED,
        "still served": OPEN,
    }


def test_a_file_that_is_gone_is_begun_anew(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path)
    ledger.record(entry("lost with the file", outcome=COMPLETED))
    until(lambda: outcomes(tmp_path))
    for path in tmp_path.glob("usage.db*"):
        path.unlink()
    ledger.record(entry("after", outcome=COMPLETED))
    ledger.close()
    assert ledger.health.problem is None
    assert outcomes(tmp_path) == {"after": COMPLETED}


def test_what_could_not_be_written_until_the_end_is_said(tmp_path: Path) -> None:
    ledger = SQLiteLedger(tmp_path)
    (tmp_path / "usage.db").write_bytes(b"garbage")
    ledger.record(entry("lost", outcome=COMPLETED))
    ledger.close()
    assert ledger.health.waiting == 1


def test_whoever_reads_the_usage_leaves_the_log_to_the_ledger(tmp_path: Path) -> None:
    """SQLite's locks are the process's: to look at the file must not end them."""
    ledger = SQLiteLedger(tmp_path)
    log = tmp_path / "usage.db-wal"
    script = (
        "import sys; from pathlib import Path; from tandem.coordinator import stores_in\n"
        "usage = stores_in(Path(sys.argv[1])).usage(); print(len(usage.entries(limit=9)))\n"
        "usage.close()"
    )
    for count in (1, 2):
        ledger.record(entry(f"r{count}"))
        until(lambda: len(outcomes(tmp_path)) == count)  # noqa: B023 - it is asked at once
        before = log.stat().st_ino
        command = [sys.executable, "-c", script, str(tmp_path)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        assert int(done.stdout) == count
        assert log.stat().st_ino == before, "it is the same log that the ledger writes to"
    ledger.close()
