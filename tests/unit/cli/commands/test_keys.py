"""`tandem keys`: what a listing tells of each key."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.cli.conftest import RunCli


def test_a_listing_says_whose_each_key_is_in_eighty_columns(
    run_cli: RunCli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = f"--data-dir={tmp_path}"
    limits = ("--requests-per-minute=20", "--budget-tokens=100000", "--min-trust=hardware")
    assert run_cli("keys", "create", "laptop", "--account=alice", *limits, folder) == 0
    assert run_cli("keys", "create", "desk", "--operator", folder) == 0
    key = capsys.readouterr().out.split()[0]
    assert run_cli("keys", "list", folder) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    words = shown.split()
    assert {"laptop", "alice", "user", "desk", "default", "operator", key[:14]} < set(words)
    assert {"20", "requests/min", "100000", "hardware"} < set(words)
