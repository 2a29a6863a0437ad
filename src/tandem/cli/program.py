"""The `tandem` command, assembled from the modules of `commands`.

Start-up is kept short: a command imports what it needs when it runs, so that `tandem version`,
`keys` or `chat` never load the engine or the HTTP server. Errors are raised as `TandemError`
wherever they happen, and become one line and an exit code in `main`, and nowhere else.
"""

from __future__ import annotations

from typing import Annotated

import typer

from tandem import __version__
from tandem.cli import commands
from tandem.cli.discovery import SectionedGroup, add_commands
from tandem.cli.failures import run_commands
from tandem.cli.output import print_plain

__all__ = ["app", "main"]

app = typer.Typer(
    name="tandem",
    cls=SectionedGroup,
    help="""Turns machines you own into one private LLM service with an OpenAI-compatible API.

    \b
    Start here:
      tandem up                     serve a model on this machine
      tandem chat                   talk to it, in another terminal
      tandem run "Tell me a story"  one question, one answer

    \b
    Exit codes: 0 done; 1 it failed; 2 wrong options or configuration;
    3 nothing is serving there; 130 interrupted.""",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print_plain(f"tandem {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Options of the command itself; each ends it."""


add_commands(app, commands)


def main() -> None:
    """The entry point: runs the command line and ends the process with its exit code."""
    run_commands(app, "tandem")
