"""`python -m benchmarks`: every race says what it is for, without what it races against."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app

_RACES = (
    *("engines", "gateways", "throughput", "scaling", "reservations", "service", "near-ties"),
    *("quality", "experts", "attacks"),
)


@pytest.mark.parametrize("race", _RACES)
def test_help_shows_an_example_of_the_race(race: str) -> None:
    result = CliRunner().invoke(app, [race, "--help"])
    assert result.exit_code == 0
    assert f"python -m benchmarks {race}\n" in result.output
    assert "--json" in result.output


def test_every_race_is_tested_for_its_help() -> None:
    assert len(app.registered_commands) == len(_RACES)
