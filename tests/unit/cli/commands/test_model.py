from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.unit.cli.conftest import RunCli


def test_a_model_is_created_and_inspected(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = str(tmp_path / "model")
    assert run_cli("model", "create", folder, "--family", "qwen3", "--seed", "3", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"directory": folder}
    assert run_cli("model", "inspect", folder, "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["architecture"] == "Qwen3ForCausalLM"
    assert run_cli("model", "inspect", folder) == 0
    assert f"{summary['parameters']:,}" in capsys.readouterr().out


def test_the_shipped_model_can_be_inspected(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_cli("model", "inspect", "tandem-demo", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["parameters"] > 1_000_000
    assert summary["end_tokens"] == [0, 2]
    assert summary["sampling"]["temperature"] == 1.0
    assert run_cli("model", "inspect", "tandem-demo") == 0
    out = capsys.readouterr().out
    assert "0, 2" in out
    assert "temperature 1.0, top_p 1.0, top_k 0" in out


@pytest.mark.parametrize(
    "options",
    [["--size", "huge"], ["--family", "no-such"], ["--dtype", "auto"]],
    ids=" ".join,
)
def test_what_cannot_be_created_is_refused(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], tmp_path: Path, options: list[str]
) -> None:
    assert run_cli("model", "create", str(tmp_path / "model"), *options) == 2
    assert "error:" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_folder_that_is_in_use_is_left_alone(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert run_cli("model", "create", str(tmp_path)) == 2
    assert "not an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_what_is_no_model_cannot_be_inspected(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_cli("model", "inspect", str(tmp_path)) == 2
    assert run_cli("model", "inspect", str(tmp_path / "none")) == 2
    assert capsys.readouterr().out == ""
