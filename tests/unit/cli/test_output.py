"""What is printed, as scripts and narrow terminals see it."""

from __future__ import annotations

import pytest

from tandem.cli.output import print_table


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
