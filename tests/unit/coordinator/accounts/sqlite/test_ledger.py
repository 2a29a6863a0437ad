"""One row a request, whatever happens to the process and to the disk."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from tests.support.stores import ledger_entries

from tandem.coordinator.accounts.records import COMPLETED, CRASHED, Entry
from tandem.coordinator.accounts.sqlite.ledger import SQLiteLedger


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
