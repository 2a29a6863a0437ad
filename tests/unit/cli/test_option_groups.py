from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from tandem.cli.option_groups import arguments_of, grouped


class Colours(msgspec.Struct, frozen=True, kw_only=True):
    shade: Annotated[str, typer.Option(help="How dark.")]
    red_part: Annotated[int, typer.Option(min=0, max=9)] = 5
    note: Annotated[str | None, typer.Option()] = None
    also: Annotated[list[str] | None, typer.Option()] = None


_seen: list[object] = []


def paint(
    wall: Annotated[str, typer.Argument()],
    colours: Colours,
    quick: Annotated[bool, typer.Option("--quick")] = False,
) -> None:
    """Paints."""
    _seen[:] = [wall, colours, quick]


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer(rich_markup_mode=None)
    app.command()(grouped(paint))
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


def test_a_command_gets_the_struct_and_people_its_fields() -> None:
    given = ["south", "--shade=dark", "--red-part=7", "--also=a", "--also=b", "--quick"]
    assert run(*given) == (0, "")
    assert _seen == ["south", Colours(shade="dark", red_part=7, also=["a", "b"]), True]


def test_what_is_not_given_has_the_structs_default() -> None:
    assert run("south", "--shade=light") == (0, "")
    assert _seen == ["south", Colours(shade="light"), False]


@pytest.mark.parametrize(
    ("given", "named"), [(["--shade=x", "--red-part=10"], "--red-part"), ([], "--shade")]
)
def test_an_option_that_is_wrong_or_missing_is_named(given: list[str], named: str) -> None:
    code, output = run("south", *given)
    assert code == 2
    assert named in output


def test_help_shows_the_fields_and_their_defaults() -> None:
    code, output = run("--help")
    assert code == 0
    assert "Paints." in output
    assert "How dark." in output
    assert "default: 5" in output


def test_a_command_without_a_struct_is_itself() -> None:
    def plain(one: Annotated[int, typer.Option()] = 1) -> None:
        """Nothing."""

    assert grouped(plain) is plain


def test_arguments_give_another_command_the_same() -> None:
    colours = Colours(shade="very dark", red_part=7)
    arguments = arguments_of(colours)
    assert arguments == ["--shade=very dark", "--red-part=7"]
    assert run("south", *arguments) == (0, "")
    assert _seen[1] == colours
