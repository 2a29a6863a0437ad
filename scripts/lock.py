"""Writes requirements.lock: every dependency's version, for Python 3.11-3.13 on Linux and macOS.

    make lock                  keeps the versions that still fit
    make lock ARGS=--upgrade   takes the newest

uv resolves for all platforms at once from package metadata; it lives in a temporary environment
of its own. The file is used as pip constraints, so it may name packages that a platform skips.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
#: Held back on purpose: the versions that the engine's numbers were checked with.
HELD = ("torch==2.13.0",)


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="tandem-lock-") as folder:
        tools = Path(folder) / "venv"
        venv.create(tools, with_pip=True)
        held = Path(folder) / "held.txt"
        held.write_text("\n".join(HELD) + "\n", encoding="utf-8")
        run([str(tools / "bin" / "pip"), "install", "--quiet", "uv"])
        run(
            [
                *(str(tools / "bin" / "uv"), "pip", "compile", "pyproject.toml", "--quiet"),
                *("--universal", "--all-extras", "--python-version", "3.11"),
                *("--constraint", str(held), "--output-file", str(LOCK)),
                *("--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"),
                *arguments,
            ]
        )
    write_header()
    print(f"Wrote {LOCK.relative_to(ROOT)}")
    return 0


def write_header() -> None:
    pins = [line for line in LOCK.read_text("utf-8").splitlines() if "==" in line]
    header = "# Written by `make lock` from pyproject.toml; used as pip constraints."
    LOCK.write_text("\n".join([header, *pins]) + "\n", encoding="utf-8")


def run(command: list[str]) -> None:
    """Without uv's settings: an index of one's own could pin versions that others do not find."""
    environment = {name: value for name, value in os.environ.items() if name[:3] != "UV_"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
