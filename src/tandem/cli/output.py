"""Where text meets the terminal: results on stdout, everything said about them on stderr.

Colour and spinners appear only on a terminal and never with NO_COLOR set; rich decides that.
What a model or a server wrote is stripped of control characters before a terminal sees it, and
brackets in it are brackets: no text is read as rich's markup.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from rich.console import Console

#: C0 and C1 controls except tab and newline: an answer must not move the cursor, recolour the
#: screen or retitle the window. And what turns the order of characters round, so that a name does
#: not look like another.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_LINES = re.compile(r"[\t\n\u2028\u2029]")


@cache
def stdout() -> Console:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


@cache
def stderr() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def note(text: str) -> None:
    """One line for the person at the terminal; scripts read stdout."""
    stderr().print(printable(text), style="dim", markup=False, soft_wrap=True)


def print_json(value: object) -> None:
    """One line of JSON on stdout, flushed: the reader may be waiting for it."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_plain(text: str) -> None:
    """A line that is copied and pasted: never wrapped, never coloured."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def show_table(
    titles: list[str],
    rows: list[list[str]],
    *,
    folds: Collection[str] = (),
    figures: Collection[str] = (),
) -> None:
    """Cells are text of unknown origin, and are shown as text, whatever they hold.

    Where the terminal is too narrow, columns that `folds` names are broken, others are cut.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(
            title,
            no_wrap=title not in folds,
            overflow="fold" if title in folds else "ellipsis",
            justify="right" if title in figures else "left",
        )
    for row in rows:
        table.add_row(*(Text(_LINES.sub(" ", printable(cell))) for cell in row))
    stdout().print(table)


def print_table(titles: list[str], rows: list[list[str]]) -> None:
    """The first column to the left, figures to the right; none is cut, however narrow it is."""
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for first, *others in (titles, *rows):
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        print_plain("  ".join([first.ljust(widths[0]), *cells]).rstrip())


def printable(text: str) -> str:
    """Text of unknown origin, made safe for a terminal."""
    return _CONTROLS.sub("", text)


def write_text(text: str) -> None:
    """Shows a piece of an answer at once; a terminal gets it without control characters."""
    sys.stdout.write(printable(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()
