"""Ten thousand schedules of faults, of which `make test` plays the first."""

from __future__ import annotations

import pytest
import structlog
from tests.simulation.schedules import play

SCHEDULES, BLOCKS = 10_000, 10


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("block", range(BLOCKS))
def test_every_request_ends_well_under_every_schedule_of_faults(block: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        play(range(block, SCHEDULES, BLOCKS))
    finally:
        structlog.reset_defaults()
