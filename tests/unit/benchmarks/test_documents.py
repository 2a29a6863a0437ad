"""Every measurement that a document names exists, with its options."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.__main__ import app as races
from tandem.cli import app as tandem

_ROOT = Path(__file__).parents[3]
#: All but the log of changes, which says what was.
_DOCUMENTS = [
    *(path for path in _ROOT.glob("*.md") if path.name != "CHANGELOG.md"),
    *(_ROOT / "docs").rglob("*.md"),
    _ROOT / "benchmarks" / "README.md",
]
#: Up to the end of its quotation, its line or its pipe.
_COMMAND = re.compile(
    r"(?:tandem (?P<ours>bench)|python -m (?P<race>benchmarks)) (?P<rest>[^`\n|]+)"
)


@cache
def _options_of(app: typer.Typer, *command: str) -> set[str]:
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0, command
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", done.output))


@pytest.mark.parametrize("path", _DOCUMENTS, ids=lambda path: str(path.relative_to(_ROOT)))
def test_every_measurement_that_is_named_exists_with_its_options(path: Path) -> None:
    for found in _COMMAND.finditer(path.read_text()):
        name, *words = found["rest"].split()
        app, command = (tandem, ("bench", name)) if found["ours"] else (races, (name,))
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        if name != "--help":
            assert used <= _options_of(app, *command), found[0]
