"""What is printed, as scripts and narrow terminals see it."""

from __future__ import annotations

import pytest
from rich.table import Table

from tandem.cli.output import note, print_table, printable, stderr, stdout


def test_no_figure_of_a_table_is_cut_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "10")
    print_table(["speed", "one rank", "ratio"], [["1 stream", "1234.56", "1.00"], ["all", "9", ""]])
    assert capsys.readouterr().out.splitlines() == [
        "speed     one rank  ratio",
        "1 stream   1234.56   1.00",
        "all              9",
    ]


@pytest.mark.parametrize("name", ["[/evil]", "[link=http://x]box[/link]", "[red]x", ":cat:"])
def test_brackets_in_a_name_are_brackets(capsys: pytest.CaptureFixture[str], name: str) -> None:
    table = Table(box=None)
    table.add_column("NAME")
    table.add_row(name)
    for console in (stdout, stderr):
        console.cache_clear()
        console().print(table)
        console().print(name)
    note(name)
    out, err = capsys.readouterr()
    assert (out.count(name), err.count(name)) == (2, 3)


def test_text_of_unknown_origin_cannot_move_or_turn_what_stands_there() -> None:
    assert (
        printable("\x1b[2J\x1b]0;x\x07boo\u202egpu\u2066-box\n\ttab") == "[2J]0;xboogpu-box\n\ttab"
    )
