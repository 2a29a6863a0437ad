"""A command is one file: it is there when its module is, and nothing else names it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tandem.cli import app
from tandem.cli.discovery import Section, SectionedGroup, add_commands

_WAVE = '''"""`tandem wave`."""
from __future__ import annotations
from typing import Annotated
import typer
from tandem.cli.discovery import Section
SECTION = Section.USE

def wave(hand: Annotated[str, typer.Option(help="Which.")] = "left") -> None:
    """Waves."""
    typer.echo(f"{hand} hand")
'''
_TOOLS = '''"""`tandem tools`: a group, in no section."""
from __future__ import annotations
import typer
tools = typer.Typer(help="Tools.", rich_markup_mode=None)

@tools.callback()
def group() -> None:
    """Keeps `saw` a subcommand."""

@tools.command()
def saw() -> None:
    """Saws."""
    typer.echo("sawn")
'''


def _app(folder: Path, monkeypatch: pytest.MonkeyPatch, **modules: str) -> typer.Typer:
    """An application of the commands in a package that has just these modules."""
    package = folder / f"commands_{len(modules)}"
    package.mkdir()
    (package / "__init__.py").touch()
    for name, text in modules.items():
        (package / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, f"{package.name}.{name}", raising=False)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, package.name, raising=False)
    made = typer.Typer(cls=SectionedGroup, rich_markup_mode=None)
    made.callback()(lambda: None)
    add_commands(made, importlib.import_module(package.name))
    return made


def test_a_module_that_is_dropped_in_is_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = _app(tmp_path, monkeypatch, tools=_TOOLS)
    assert CliRunner().invoke(without, ["wave"]).exit_code == 2
    with_it = _app(tmp_path, monkeypatch, tools=_TOOLS, wave=_WAVE)
    assert CliRunner().invoke(with_it, ["wave", "--hand=right"]).output == "right hand\n"
    assert CliRunner().invoke(with_it, ["tools", "saw"]).output == "sawn\n"


def test_it_is_listed_where_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = _app(tmp_path, monkeypatch, tools=_TOOLS, wave=_WAVE)
    lines = [line.strip() for line in CliRunner().invoke(made, ["--help"]).output.splitlines()]
    assert lines[lines.index(f"{Section.USE}:") + 1].split() == ["wave", "Waves."]
    assert lines[lines.index(f"{Section.OTHER}:") + 1].split() == ["tools", "Tools."]


def test_every_command_of_tandem_has_its_section() -> None:
    shown = CliRunner().invoke(app, ["--help"]).output
    sections = [section for section in Section if f"{section}:" in shown]
    assert sections == [section for section in Section if section is not Section.OTHER]
    assert sections == sorted(sections, key=lambda section: shown.index(f"{section}:"))
