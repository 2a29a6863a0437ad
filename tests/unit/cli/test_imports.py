"""What a command loads: start-up is fast, and a coordinator needs no engine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_HEAVY = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "huggingface_hub")
_RUN = """
import json, sys
from tandem.cli import main
try:
    main()
except SystemExit as ended:
    code = ended.code
print("LOADED " + json.dumps(sorted(sys.modules)), file=sys.stderr)
sys.exit(code)
"""


def _loaded_by(*arguments: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _RUN, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    line = done.stderr.splitlines()[-1]
    return set(json.loads(line.removeprefix("LOADED ")))


@pytest.mark.parametrize(
    "arguments",
    [["version"], ["--help"], ["keys", "list"], ["coordinator", "--help"], ["up", "--help"]],
    ids=" ".join,
)
def test_commands_load_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("TANDEM_DATA_DIR", str(tmp_path))
    assert not _loaded_by(*arguments).intersection(_HEAVY)


def test_help_loads_no_server_and_no_client() -> None:
    assert not _loaded_by("--help").intersection({"uvicorn", "starlette", "httpx2", "sqlalchemy"})


def test_the_coordinators_defaults_load_no_server_and_no_store() -> None:
    code = "import sys, tandem.coordinator.config; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    heavy = {"uvicorn", "starlette", "prometheus_client", "sqlalchemy"}
    assert not set(done.stdout.split()).intersection(heavy)


def test_the_coordinator_loads_no_engine() -> None:
    code = "import sys, tandem.coordinator.service; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert not set(done.stdout.split()).intersection(_HEAVY)


@pytest.mark.parametrize(
    "arguments",
    [
        ["up"],
        ["provider", "--coordinator=localhost:1", "--join-token=t"],
        ["model", "inspect", "x"],
    ],
    ids=" ".join,
)
def test_a_missing_extra_says_how_to_install_it(tmp_path: Path, arguments: list[str]) -> None:
    without_torch = f"""
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in {_HEAVY!r} else find(name, path, target)
PathFinder.find_spec = find_spec
{_RUN}"""
    done = subprocess.run(
        [sys.executable, "-c", without_torch, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"TANDEM_DATA_DIR": str(tmp_path), "PATH": ""},
    )
    assert done.returncode == 2
    assert "pip install 'tandem[torch]'" in done.stderr
    assert "Traceback" not in done.stderr
