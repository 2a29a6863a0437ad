"""`tandem nodes`: machines and join tokens, made, listed and ended."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tests.unit.cli.conftest import RunCli
from typer.testing import CliRunner

from tandem.cli import app
from tandem.coordinator import Node, stores_in
from tandem.coordinator.accounts.records import NodeState


def run(data_dir: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, ["nodes", *arguments, f"--data-dir={data_dir}"])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_token_is_shown_once_listed_and_revoked(tmp_path: Path) -> None:
    secret = run(tmp_path, "token", "alice").strip()
    assert secret.startswith("join-")
    (listed,) = json.loads(run(tmp_path, "tokens", "--json"))
    assert (listed["account"], listed["uses_left"]) == ("alice", 1)
    assert "secret_hash" not in listed
    run(tmp_path, "revoke-token", listed["id"])
    assert json.loads(run(tmp_path, "tokens", "--json")) == []


@pytest.mark.parametrize(
    "wrong", ["--expires=soon", "--expires=0h", "--uses=0", "--uses=-1", "--uses=many"]
)
def test_what_is_no_token_is_refused(
    run_cli: RunCli, tmp_path: Path, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("nodes", "token", wrong, f"--data-dir={tmp_path}") == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_token_that_never_ends_is_warned_of(
    run_cli: RunCli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = f"--data-dir={tmp_path}"
    assert run_cli("nodes", "token", "--expires=never", "--uses=any", "--json", folder) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["expires_at"], made["uses_left"]) == (None, None)
    assert run_cli("nodes", "tokens", folder) == 0
    assert f"tandem nodes revoke-token {made['id']}" in capsys.readouterr().err


def test_a_machine_that_waits_is_listed_approved_and_removed(
    run_cli: RunCli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = Node("3f" * 32, "[/evil]\x1b[2J\u202ebox", "default", NodeState.PENDING)
    store = stores_in(tmp_path).nodes()
    asyncio.run(store.put(waiting))
    store.close()
    assert run_cli("nodes", "list", f"--data-dir={tmp_path}") == 0
    shown = capsys.readouterr().out
    assert "[/evil][2Jbox" in shown
    assert "pending" in shown
    assert "alice" in run(tmp_path, "approve", "3f3f", "--account", "alice")
    (listed,) = json.loads(run(tmp_path, "list", "--json"))
    assert (listed["state"], listed["account"]) == ("approved", "alice")
    run(tmp_path, "remove", "3f3f")
    (listed,) = json.loads(run(tmp_path, "list", "--json"))
    assert listed["state"] == "removed"


def test_who_removes_a_machine_hears_of_the_tokens_that_are_left(
    run_cli: RunCli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = json.loads(run(tmp_path, "token", "--uses", "20", "--json"))
    capsys.readouterr()
    assert run_cli("nodes", "remove", "3f" * 32, f"--data-dir={tmp_path}") == 0
    assert made["id"] in capsys.readouterr().err
