"""Creates the virtual environment, or brings it up to date; `make` runs this when it is stale.

    python3 scripts/setup.py .venv torch [dev]

Standard library only, since nothing is installed yet. Every package is of the version in the lock,
and pip refuses a file whose hash is not there. PyTorch alone is held by its version, since each of
its many builds has other hashes. On Linux without an NVIDIA GPU its CPU build is preferred: the
default one brings gigabytes of CUDA along. TORCH_INDEX_URL names another index for PyTorch; set and
empty, it means none.
"""

from __future__ import annotations

import http.client
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK, DEV_LOCK = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"
SUPPORTED = ((3, 11), (3, 13))
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_INDEX_TIMEOUT_S = 3.0
#: In the order in which extras are added; each has a stamp file for make.
_STAMPS = {"torch": ".installed-runtime", "dev": ".installed-dev"}
#: What PyTorch's build for NVIDIA GPUs needs beside it, by how the names begin.
_CUDA = ("cuda-", "nvidia-", "triton")

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class SetupError(Exception):
    """What went wrong and what to do about it, in one line."""


def main(arguments: list[str]) -> int:
    venv, extras = Path(arguments[0]), arguments[1:]
    try:
        check_version(sys.version_info[:2])
        create_venv(venv)
        install(venv, extras)
        if "dev" in extras:
            install_browser(venv)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for extra in extras:
        (venv / _STAMPS[extra]).touch()
    return 0


def check_version(version: tuple[int, int]) -> None:
    oldest, newest = SUPPORTED
    if not oldest <= version <= newest:
        raise SetupError(
            f"Tandem needs Python {_dotted(oldest)} to {_dotted(newest)}, this is"
            f" {_dotted(version)}: run `make PYTHON=/path/to/another/python`"
        )


def create_venv(venv: Path) -> None:
    """A new environment unless there is one that works: its Python may have been removed since."""
    if _works(venv):
        return
    if venv.exists():
        shutil.rmtree(venv)
    say(f"Creating {venv} (first time only) ...")
    result = subprocess.run(
        [sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True, check=False
    )
    if result.returncode == 0:
        return
    shutil.rmtree(venv, ignore_errors=True)  # half an environment would pass for a whole one
    output = result.stdout + result.stderr
    if "ensurepip" in output:
        package = f"python{_dotted(sys.version_info[:2])}-venv"
        raise SetupError(
            f"this Python cannot create environments: `sudo apt install {package}` mends that on"
            " Debian and Ubuntu; elsewhere install a complete Python, or name one with PYTHON=..."
        )
    raise SetupError(f"cannot create {venv}: {output.strip()}")


def install(venv: Path, extras: list[str]) -> None:
    if not _has_torch(venv):
        say("Installing PyTorch (first time only; some hundred megabytes) ...")
        install_torch(venv)
    say(f"Installing Tandem with its dependencies ({', '.join(extras)}) ...")
    lock = DEV_LOCK if "dev" in extras else LOCK
    wanted = locked(lock.read_text("utf-8"), cuda=_torch_needs_cuda(venv))
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as requirements:
        requirements.write(wanted)
        requirements.flush()
        # Nothing but what the lock names, so there is nothing to resolve.
        done = pip(venv, ["--no-deps", "--require-hashes", "-r", requirements.name])
    if not done or not pip(venv, ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]):
        raise SetupError("pip failed, see above; mend that and run the same command again")


def install_torch(venv: Path) -> None:
    """Without its dependencies, which are in the lock."""
    index, wanted = torch_index(), f"torch=={pinned('torch')}"
    if index is not None:
        if pip(venv, ["--no-deps", "--index-url", index, wanted]):
            return
        if "TORCH_INDEX_URL" in os.environ:
            raise SetupError(f"PyTorch could not be installed from TORCH_INDEX_URL={index}")
        say("That did not work: taking PyTorch from the default index ...")
    if not pip(venv, ["--no-deps", wanted]):
        raise SetupError("PyTorch could not be installed, see above: run the same command again")


def locked(lock: str, *, cuda: bool) -> str:
    """The lock's requirements with their hashes, but for PyTorch, and for CUDA unless wanted."""
    requirements = re.split(r"\n(?=[^\s#])", re.sub(r"(?m)^#.*\n", "", lock).strip())
    left_out = ("torch==", *(() if cuda else _CUDA))
    return "\n".join(r for r in requirements if not r.startswith(left_out)) + "\n"


def install_browser(venv: Path) -> None:
    """The tests of the console drive a Chromium: the system's, or Playwright's own."""
    if any(shutil.which(name) for name in _BROWSERS):
        return
    say("Installing Chromium, for the tests of the console (first time only) ...")
    if shutil.which("apt-get") and os.geteuid() == 0:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            command = ["apt-get", "-qq", *arguments]
            subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
        if shutil.which("chromium"):
            return
    command = [str(_python(venv)), "-m", "playwright", "install", "chromium"]
    if subprocess.run(command, check=False).returncode != 0:
        raise SetupError("no Chromium could be installed: install one, so that it is on the PATH")


def torch_index() -> str | None:
    """Where PyTorch comes from; None leaves it to pip's own configuration."""
    chosen = os.environ.get("TORCH_INDEX_URL")
    if chosen is not None:
        return chosen or None
    if sys.platform != "linux" or platform.machine() != "x86_64" or has_nvidia_gpu():
        return None
    return TORCH_CPU_INDEX if answers(f"{TORCH_CPU_INDEX}/torch/") else None


def has_nvidia_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def answers(url: str) -> bool:
    """Whether the index is reachable from here, within a few seconds."""
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_INDEX_TIMEOUT_S) as response:
            return bool(response.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def pinned(package: str) -> str:
    """The package's version in the lock."""
    found = re.search(rf"^{re.escape(package)}==([^\s;]+)", LOCK.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise SetupError(f"{LOCK.name} does not pin {package}: run `make lock`")
    return found.group(1)


def pip(venv: Path, arguments: list[str]) -> bool:
    """Runs `pip install`; it prints errors only."""
    command = [str(_python(venv)), "-m", "pip", "install", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def say(text: str) -> None:
    print(text, flush=True)


def _has_torch(venv: Path) -> bool:
    probe = "from importlib.metadata import version; print(version('torch'))"
    result = subprocess.run(
        [str(_python(venv)), "-c", probe], capture_output=True, text=True, check=False
    )
    return result.stdout.strip().partition("+")[0] == pinned("torch")


def _torch_needs_cuda(venv: Path) -> bool:
    probe = "from importlib.metadata import requires; print(*requires('torch') or ())"
    result = subprocess.run(
        [str(_python(venv)), "-c", probe], capture_output=True, text=True, check=True
    )
    return any(name.startswith(_CUDA) for name in result.stdout.split())


def _works(venv: Path) -> bool:
    """Whether the environment has a Python that runs, is of a supported version, and has pip."""
    probe = "import pip, sys; print(*sys.version_info[:2])"
    try:
        result = subprocess.run(
            [str(_python(venv)), "-c", probe], capture_output=True, text=True, check=False
        )
    except OSError:
        return False
    oldest, newest = SUPPORTED
    return result.returncode == 0 and oldest <= tuple(map(int, result.stdout.split())) <= newest


def _python(venv: Path) -> Path:
    return ROOT / venv / "bin" / "python"


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
