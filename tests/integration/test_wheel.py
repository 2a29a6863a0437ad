"""The wheel: the product and nothing that it is measured against, and it runs from any folder."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.support.running_up import outside_settings

from tandem import __version__

_ROOT = Path(__file__).parents[2]
#: What the text of a driver names, or its own name: packages, for a format may be a rival's.
_RIVALS = ("litellm", "llama_cpp", "llama-cpp")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", str(_ROOT), "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}")
    (built,) = folder.glob("*.whl")
    return built


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def test_it_has_the_demonstration_model_and_the_console(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (_ROOT / "src" / "tandem" / "assets").rglob("*"):
        assert path.is_dir() or path.relative_to(_ROOT / "src").as_posix() in names


def test_it_says_what_it_is_made_of(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if ".dist-info/sboms/" in name)
    assert archive.read(name) == (_ROOT / "sbom.cdx.json").read_bytes()


def test_it_has_no_driver_of_a_rival(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    modules = [name for name in archive.namelist() if name.endswith(".py")]
    assert all(name.startswith("tandem/") for name in modules)
    for name in modules:
        text = name + archive.read(name).decode()
        assert not [rival for rival in _RIVALS if rival in text.lower()], name


def test_its_commands_run_outside_of_the_repository(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    _pip("install", "--no-deps", f"--target={installed}", str(wheel))
    assert _tandem(installed, "version").splitlines()[0] == f"tandem {__version__}"
    assert "--ranks" in _tandem(installed, "up", "--help")


def _tandem(installed: Path, *arguments: str) -> str:
    """What the command prints, with this environment's dependencies and the wheel's Tandem."""
    script = "import tandem.cli; assert tandem.cli.__file__.startswith({!r}); tandem.cli.main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script.format(str(installed)), *arguments],
        cwd=installed.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**outside_settings(), "PYTHONPATH": str(installed)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
