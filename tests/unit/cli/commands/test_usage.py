"""`tandem usage` on a ledger, and keys with limits."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from tests.support.stores import create_key
from tests.unit.cli.conftest import RunCli

from tandem.coordinator import stores_in
from tandem.coordinator.accounts.records import COMPLETED, Entry
from tandem.protocol import Trust


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    create_key(tmp_path, "alice")
    ledger = stores_in(tmp_path).ledger()
    for number, age in enumerate((timedelta(0), timedelta(days=3))):
        entry = Entry(
            request_id=f"r{number}",
            started_at=datetime.now(UTC) - age,
            key_id=1,
            account="default",
            model="m",
        )
        ledger.record(
            msgspec.structs.replace(
                entry, outcome=COMPLETED, prompt_tokens=10, completion_tokens=5, total_s=1.5
            )
        )
    ledger.close()
    return tmp_path


def test_sums_by_key_and_span(
    run_cli: RunCli, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    option = f"--data-dir={folder}"
    assert run_cli("usage", option) == 0
    shown = capsys.readouterr().out
    assert "alice" in shown
    assert "20" in shown
    assert run_cli("usage", option, "--since", "24h", "--json") == 0
    (total,) = json.loads(capsys.readouterr().out)
    assert (total["requests"], total["prompt_tokens"], total["completion_tokens"]) == (1, 10, 5)


def test_the_newest_rows_fit_a_narrow_terminal(
    run_cli: RunCli, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("usage", f"--data-dir={folder}", "--requests", "5") == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert shown.count("completed") == 2


def test_a_span_that_is_none_is_named(run_cli: RunCli, folder: Path) -> None:
    assert run_cli("usage", f"--data-dir={folder}", "--since", "soon") == 2


def test_a_key_keeps_its_limits_and_its_account(
    run_cli: RunCli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ("--requests-per-minute=20", "--budget-tokens=1000", "--min-trust=hardware")
    option = f"--data-dir={tmp_path}"
    assert run_cli("keys", "create", "guest", "--account=alice", *limits, option) == 0
    with closing(stores_in(tmp_path).keys()) as stored:
        (record,) = stored.list()
    assert record.account == "alice"
    assert record.limits.requests_per_minute == 20
    assert record.limits.budget_tokens == 1000
    assert record.limits.min_trust is Trust.HARDWARE
    capsys.readouterr()
    assert run_cli("keys", "list", option, "--json") == 0
    assert "hardware" in capsys.readouterr().out
