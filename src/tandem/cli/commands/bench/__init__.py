"""`tandem bench`: figures that anybody can repeat. A module a measurement."""

from __future__ import annotations

import sys

import typer

from tandem.cli.discovery import Section, add_commands

SECTION = Section.LOOK

bench = typer.Typer(
    help="Measures, side by side in one run.", no_args_is_help=True, rich_markup_mode=None
)
add_commands(bench, sys.modules[__name__])
