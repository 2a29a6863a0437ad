"""`tandem provider`: what is wrong with its options is said before anything starts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.unit.cli.conftest import RunCli

from tandem.cli.cluster_options import ClusterOptions
from tandem.cli.commands.provider import MachineOptions, provider_config
from tandem.cli.options import ModelOptions


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--ranks=2"], "--peer"),
        (["--ranks=2", "--peer=nowhere"], "--peer"),
        (["--peer=127.0.0.1:1"], "--ranks"),
        (["--ranks=2", "--peer=127.0.0.1:1", "--split=1,2,3"], "--split"),
        (["--ranks=2", "--peer=127.0.0.1:1"], "tandem pair"),
        (
            ["--ranks=2", "--peer=127.0.0.1:1", "--collectives=gloo"],
            "--allow-plaintext-collectives",
        ),
    ],
)
def test_options_that_make_no_cluster_say_what_is_missing(
    run_cli: RunCli,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    options: list[str],
    word: str,
) -> None:
    service = ("--coordinator=127.0.0.1:9", "--join-token=t", f"--data-dir={tmp_path}")
    assert run_cli("provider", *service, *options) == 2
    shown = capsys.readouterr().err
    assert word in shown
    assert "Traceback" not in shown


def test_without_a_join_token_it_asks_to_be_approved(tmp_path: Path) -> None:
    machine = MachineOptions(coordinator="127.0.0.1:9", data_dir=tmp_path)
    config = provider_config(machine, ModelOptions(), ClusterOptions())
    assert config.join_token == ""


@pytest.mark.parametrize("has_home", [True, False])
def test_without_a_home_compiled_loops_are_kept_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_home: bool
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path if has_home else tmp_path / "none"))
    machine = MachineOptions(coordinator="127.0.0.1:9", data_dir=tmp_path / "data")
    provider_config(machine, ModelOptions(), ClusterOptions())
    kept = None if has_home else str(tmp_path / "data" / "compiled")
    assert os.environ.get("NUMBA_CACHE_DIR") == kept
