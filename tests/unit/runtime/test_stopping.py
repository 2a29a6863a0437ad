"""The parts of a stop, added up."""

from __future__ import annotations

from tandem import runtime


def test_all_parts_of_a_stop_fit_into_its_limit() -> None:
    inside = runtime.DRAIN_TIMEOUT_S + runtime.CLOSE_TIMEOUT_S
    assert inside < runtime.COORDINATOR_STOP_TIMEOUT_S
    assert (
        runtime.COORDINATOR_STOP_TIMEOUT_S + runtime.PROVIDER_STOP_TIMEOUT_S < runtime.STOP_LIMIT_S
    )
