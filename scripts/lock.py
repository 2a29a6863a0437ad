"""Writes the locks: every dependency's version and hashes, for Python 3.11-3.13 on Linux and macOS.

    make lock                  keeps the versions that still fit
    make lock ARGS=--upgrade   takes the newest

`requirements.lock` is what a provider runs with, `requirements-dev.lock` has the checks too, and
`sbom.cdx.json` says the former in CycloneDX's format. uv resolves for all platforms at once from
package metadata; it and cyclonedx-bom live in a temporary environment.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK, DEV_LOCK = ROOT / "requirements.lock", ROOT / "requirements-dev.lock"
SBOM = ROOT / "sbom.cdx.json"
#: Held back on purpose: the versions that the engine's numbers were checked with.
HELD = ("torch==2.13.0",)
#: The same lock gives the same bytes.
SBOM_OPTIONS = ("--pyproject=pyproject.toml", "--output-reproducible", f"--output-file={SBOM}")


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="tandem-lock-") as folder:
        tools = Path(folder) / "venv" / "bin"
        venv.create(tools.parent, with_pip=True)
        held = Path(folder) / "held.txt"
        held.write_text("\n".join(HELD) + "\n", encoding="utf-8")
        run([str(tools / "pip"), "install", "--quiet", "uv", "cyclonedx-bom"])
        uv = str(tools / "uv")
        run(compile_command(uv, DEV_LOCK, "--all-extras", f"--constraint={held}", *arguments))
        # The same versions, fewer packages.
        run(compile_command(uv, LOCK, "--extra=torch", f"--constraint={DEV_LOCK}"))
        run([str(tools / "cyclonedx-py"), "requirements", *SBOM_OPTIONS, str(LOCK)])
    print(f"Wrote {DEV_LOCK.name}, {LOCK.name} and {SBOM.name}")
    return 0


def compile_command(uv: str, lock: Path, *options: str) -> list[str]:
    return [
        *(uv, "pip", "compile", "pyproject.toml", "--group=build", "--quiet", "--universal"),
        *("--python-version=3.11", "--generate-hashes", "--no-annotate"),
        *("--custom-compile-command=make lock", f"--output-file={lock}"),
        *("--no-emit-index-url", "--no-emit-find-links", *options),
    ]


def run(command: list[str]) -> None:
    """Without uv's settings: an index of one's own could pin versions that others do not find."""
    environment = {name: value for name, value in os.environ.items() if name[:3] != "UV_"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
