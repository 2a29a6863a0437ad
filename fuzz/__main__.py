"""`python -m fuzz`: every target for so many executions, each in a process of its own."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fuzz.corpus import CORPORA
from fuzz.targets import NAMES, target
from tandem.cli.failures import run_commands
from tandem.errors import ConfigurationError

app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_HANG_S = 10
_MEMORY_MB = 2048
#: Of one input. Longer ones are slower and find little more.
_MAX_BYTES = 16_384
#: Inputs that one run adds to a corpus: every test run replays them.
_MOST_KEPT = 40


class Explored(msgspec.Struct, frozen=True):
    """What became of a target. `found` is the input that failed, if one did."""

    target: str
    executions: int
    seconds: int
    found: str | None


@app.command()
def fuzz(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[TARGET]...", help=f"Of {', '.join(NAMES)}.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Executions of each target.")] = 1_000_000,
    findings: Annotated[Path, typer.Option(help="Where inputs that fail are kept.")] = Path(
        "build/fuzz"
    ),
    keep: Annotated[
        bool, typer.Option(help="Adds the inputs that reach new code to the corpora.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Prints JSON.")] = False,
) -> None:
    """Feed random inputs to all that reads what others have written.

    Fails when an input raises, takes over 10 s, or over 2 GiB. A failing input is tried again with
    `python -m fuzz.explore TARGET FILE`.
    """
    if importlib.util.find_spec("atheris") is None:
        raise ConfigurationError(
            "atheris is not installed; it exists for Linux on x86-64: make fuzz"
        )
    chosen = names or list(NAMES)
    for name in chosen:
        if name not in NAMES:
            raise typer.BadParameter(f"{name} is none of {', '.join(NAMES)}")
    findings.mkdir(parents=True, exist_ok=True)
    results = [_explore(name, runs, findings.resolve(), keep=keep) for name in chosen]
    if as_json:
        typer.echo(msgspec.json.encode(results).decode())
    if any(result.found for result in results):
        raise typer.Exit(1)


def _explore(name: str, runs: int, findings: Path, *, keep: bool) -> Explored:
    typer.echo(f"{name}: {runs:,} executions ...", err=True)
    with tempfile.TemporaryDirectory(prefix="tandem-fuzz-") as folder:
        new, tokens = Path(folder) / "new", Path(folder) / "tokens"
        new.mkdir()
        tokens.write_text("\n".join(map(_token, target(name).TOKENS)), encoding="utf-8")
        command = [sys.executable, "-m", "fuzz.explore", name, str(new), str(CORPORA / name)]
        options = {
            "runs": runs,
            "timeout": _HANG_S,
            "rss_limit_mb": _MEMORY_MB,
            "max_len": _MAX_BYTES,
            "dict": tokens,
            "artifact_prefix": f"{findings}/{name}-",
            "print_final_stats": 1,
        }
        command += [f"-{option}={value}" for option, value in options.items()]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if keep:
            _keep(name, new)
    result = _explored(name, done)
    if result.found is None:
        typer.echo(f"  {result.executions:,} executions in {result.seconds} s: sound", err=True)
    else:
        typer.echo(done.stderr, err=True)
        typer.echo(f"  failed: {result.found}", err=True)
    return result


def _explored(name: str, done: subprocess.CompletedProcess[str]) -> Explored:
    said = done.stdout + done.stderr
    executions = re.search(r"stat::number_of_executed_units:\s*(\d+)", said)
    seconds = re.search(r"Done \d+ runs in (\d+) second", said)
    written = re.search(r"Test unit written to (\S+)", said)
    found = written.group(1) if written else None
    if done.returncode != 0 and found is None:
        found = f"exit code {done.returncode}"
    return Explored(
        name,
        int(executions.group(1)) if executions else 0,
        int(seconds.group(1)) if seconds else 0,
        found,
    )


def _keep(name: str, new: Path) -> None:
    """Adds the smallest of the inputs that reached new code, named by what they hold."""
    found = sorted(new.iterdir(), key=lambda path: (path.stat().st_size, path.name))
    for path in found[:_MOST_KEPT]:
        shutil.copy(path, CORPORA / name / path.name[:16])


def _token(token: str) -> str:
    """A line of a dictionary of libFuzzer's."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in token.encode("utf-8", "replace")) + '"'


def main() -> None:
    """Ends the process with the exit codes of `tandem`."""
    run_commands(app, "python -m fuzz")


if __name__ == "__main__":
    main()
