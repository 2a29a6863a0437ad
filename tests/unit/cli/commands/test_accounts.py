"""`tandem accounts`: what is shared, listed and ended."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from tandem.cli import app


def run(data_dir: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["accounts", *arguments, f"--data-dir={data_dir}"])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_shares_are_made_listed_and_ended(tmp_path: Path) -> None:
    run(tmp_path, "share", "default", "--with", "everyone")
    run(tmp_path, "share", "alice", "--with", "bob")
    assert json.loads(run(tmp_path, "list", "--json")) == [
        {"owner": "alice", "borrower": "bob"},
        {"owner": "default", "borrower": "everyone"},
    ]
    assert "alice serves bob" in run(tmp_path, "list")
    run(tmp_path, "unshare", "default", "--with", "everyone")
    run(tmp_path, "unshare", "alice", "--with", "bob")
    assert run(tmp_path, "list") == ""
