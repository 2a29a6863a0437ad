"""Ten thousand schedules of keys that do their worst, of which `make test` plays the first."""

from __future__ import annotations

import pytest
import structlog
from tests.simulation.abuse import play

SCHEDULES, BLOCKS = 10_000, 10


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("block", range(BLOCKS))
def test_whatever_one_key_does_the_others_lose_nothing_and_budgets_hold(block: int) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    try:
        play(range(block, SCHEDULES, BLOCKS))
    finally:
        structlog.reset_defaults()
