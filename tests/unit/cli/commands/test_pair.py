"""`tandem pair`: lists, removals, and a key that nobody else gets to see."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.links import identities, paired

from tandem.security import PairedNodes

RunCli = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TANDEM_DATA_DIR", str(tmp_path))
    return tmp_path


def test_pairings_are_listed_and_removed(
    folder: Path, run_cli: RunCli, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = identities(folder, 2)
    for node in (one, two):
        PairedNodes(folder).add(paired(node))
    assert run_cli("pair", "--list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {"node_id": one.node_id, "name": "node-0"},
        {"node_id": two.node_id, "name": "node-1"},
    ]
    assert run_cli("pair", "--remove", "node-0") == 0
    assert f"Removed node-0 ({one.node_id[:16]})" in capsys.readouterr().out
    assert run_cli("pair", "--remove", two.node_id[:12]) == 0
    assert PairedNodes(folder).all() == []
    assert run_cli("pair", "--list") == 0
    assert "No machine is paired" in capsys.readouterr().err


def test_what_is_removed_must_be_one_machine(
    folder: Path, run_cli: RunCli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("pair", "--remove", "nobody") == 2
    assert "no machine is paired as 'nobody'" in capsys.readouterr().err
    for number in range(2):
        (node,) = identities(folder / str(number), 1)
        PairedNodes(folder).add(paired(node))
    assert run_cli("pair", "--remove", "node-0") == 2
    assert "several machines are paired as 'node-0'" in capsys.readouterr().err
    assert len(PairedNodes(folder).all()) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--list", "--remove", "x"),
        ("host:1", "--listen", ":1"),
        ("host:1", "--list"),
        ("--account", "--listen", ":1"),
    ],
)
def test_one_thing_is_done_at_a_time(
    folder: Path, run_cli: RunCli, arguments: tuple[str, ...]
) -> None:
    assert run_cli("pair", *arguments) == 2
    assert list(folder.iterdir()) == []


def test_a_key_is_not_sent_over_plain_http_to_another_machine(
    folder: Path,
    run_cli: RunCli,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TANDEM_API_KEY", "sk-tandem-secret")
    assert run_cli("pair", "--account", "--base-url", "http://192.0.2.9:8000") == 2
    assert "is plain HTTP" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_key_among_the_arguments_is_refused(
    folder: Path, run_cli: RunCli, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--base-url", "https://192.0.2.9", "--api-key", "sk-tandem-secret")
    assert run_cli("pair", "--account", *where) == 2
    shown = capsys.readouterr().err
    assert "set TANDEM_API_KEY" in shown
    assert "sk-tandem-secret" not in shown
    assert list(folder.iterdir()) == []
