"""Ten thousand schedules of faults, of which `make test` plays the first."""

from __future__ import annotations

import pytest
import structlog
from tests.simulation.schedules import play, play_with_liars

SCHEDULES, BLOCKS = 10_000, 10
_PLAYS = {"faults": play, "liars": play_with_liars}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("block", range(BLOCKS))
@pytest.mark.parametrize("kind", _PLAYS)
def test_every_request_ends_well_under_every_schedule(block: int, kind: str) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        _PLAYS[kind](range(block, SCHEDULES, BLOCKS))
    finally:
        structlog.reset_defaults()
