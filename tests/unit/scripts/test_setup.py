"""`make`, `scripts/find-python` and `scripts/setup.py`, without installing anything."""

from __future__ import annotations

import json
import os
import platform
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import setup

_ROOT = Path(__file__).resolve().parents[3]


def _make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "MAKEFLAGS"},
    )


def test_every_target_is_in_the_help() -> None:
    listed = set(re.findall(r"^make (\w+) ", _make().stdout, re.MULTILINE))
    phony = re.search(r"^\.PHONY: (.*)$", (_ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert listed == set(phony.group(1).split())


def test_up_passes_options_on() -> None:
    assert "tandem up --ranks 2 --port 9000" in _make("-n", "up", "ARGS=--port 9000").stdout


def _requirements(lock: str) -> dict[str, str]:
    """By name and version, what follows."""
    text = setup.locked((_ROOT / lock).read_text(), cuda=True)
    found = re.findall(r"(?m)^(\S+==\S+)([^\n]*(?:\n .*)*)", text)
    assert len(found) == len(re.findall(r"(?m)^\S", text))
    return dict(found)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_the_lock_has_hashes_and_names_no_place_and_no_index(lock: str) -> None:
    hashed = r"( ; [^/@\\]+?)?( \\\n    --hash=sha256:[0-9a-f]{64})+"
    for requirement, rest in _requirements(lock).items():
        assert re.fullmatch(r"[a-z0-9-]+==[^\s/@]+", requirement)
        assert re.fullmatch(hashed, rest), requirement


def test_what_runs_is_what_was_checked() -> None:
    assert (
        _requirements("requirements.lock").items() <= _requirements("requirements-dev.lock").items()
    )


def test_cuda_is_left_out_where_pytorch_does_without() -> None:
    lock = (_ROOT / "requirements.lock").read_text()
    with_cuda, without = (setup.locked(lock, cuda=cuda) for cuda in (True, False))
    assert "nvidia-cublas==" in with_cuda
    assert not re.search("(?m)^(nvidia|cuda|triton)", without)
    assert "\ntorch==" not in with_cuda
    assert "\nuvicorn==" in without


def test_the_bill_of_materials_is_the_lock() -> None:
    bill = json.loads((_ROOT / "sbom.cdx.json").read_text())
    listed = {(part["name"], part["version"]) for part in bill["components"]}
    lock = (_ROOT / "requirements.lock").read_text()
    assert listed == set(re.findall(r"(?m)^([a-z0-9-]+)==(\S+)", lock))
    assert all(part["externalReferences"][0]["hashes"] for part in bill["components"])


def _program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def _find_python(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(_ROOT / "scripts" / "find-python")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": str(folder)},
    )


def test_an_unsuitable_python3_is_passed_over(tmp_path: Path) -> None:
    _program(tmp_path, "python3", "exit 1")
    _program(tmp_path, "python3.12", f'exec {sys.executable} "$@"')
    assert _find_python(tmp_path).stdout == "python3.12\n"


def test_no_suitable_python_is_one_line(tmp_path: Path) -> None:
    done = _find_python(tmp_path)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "Python 3.11, 3.12 or 3.13" in done.stderr


@pytest.mark.parametrize("version", [(3, 10), (3, 14), (2, 7)])
def test_other_pythons_are_refused(version: tuple[int, int]) -> None:
    with pytest.raises(setup.SetupError, match=r"3\.11 to 3\.13"):
        setup.check_version(version)


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A Linux PC without a GPU that reaches PyTorch's index."""
    monkeypatch.delenv("TORCH_INDEX_URL", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(setup, "has_nvidia_gpu", lambda: False)
    monkeypatch.setattr(setup, "answers", lambda _url: True)
    return monkeypatch


def test_a_linux_pc_without_a_gpu_gets_the_cpu_build(linux: pytest.MonkeyPatch) -> None:
    assert setup.torch_index() == setup.TORCH_CPU_INDEX


def test_the_default_index_is_used_everywhere_else(linux: pytest.MonkeyPatch) -> None:
    with linux.context() as patch:
        patch.setattr(setup, "has_nvidia_gpu", lambda: True)
        assert setup.torch_index() is None
    with linux.context() as patch:
        patch.setattr(setup, "answers", lambda _url: False)
        assert setup.torch_index() is None
    with linux.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        assert setup.torch_index() is None


def test_the_index_can_be_chosen(linux: pytest.MonkeyPatch) -> None:
    linux.setenv("TORCH_INDEX_URL", "https://example.org/whl")
    assert setup.torch_index() == "https://example.org/whl"
    linux.setenv("TORCH_INDEX_URL", "")
    assert setup.torch_index() is None


def test_an_index_that_is_not_there_is_noticed() -> None:
    assert not setup.answers("http://127.0.0.1:1/")


def test_the_pin_of_a_package_is_read_from_the_lock() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", setup.pinned("torch"))
    with pytest.raises(setup.SetupError, match="make lock"):
        setup.pinned("no-such-package")
