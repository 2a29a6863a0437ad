"""What steps cost by their rows, from what they took."""

from __future__ import annotations

import pytest

from tandem.engine.speculation.costs import StepCosts, typical


def observed(costs: StepCosts, rows: int, seconds: float, times: int = 3) -> None:
    for _ in range(times):
        costs.observe(rows, seconds)


def test_nothing_known_costs_the_same_whatever_the_rows() -> None:
    costs = StepCosts()
    assert costs.seconds(1) == costs.seconds(16)
    assert costs.most_rows == 2
    costs.observe(1, 0.25)
    assert costs.seconds(1) == costs.seconds(16) == 0.25


def test_a_first_time_tells_nothing_and_of_three_the_shortest_counts() -> None:
    costs = StepCosts()
    costs.observe(1, 9.0)
    costs.observe(1, 1.0)
    assert costs.seconds(1) == costs.seconds(16)
    costs.observe(1, 2.0)
    assert costs.seconds(1) == 1.0
    assert costs.seconds(2) == 1.0
    assert costs.most_rows == 2


def test_between_ranges_and_beyond_them_costs_grow_in_a_line() -> None:
    costs = StepCosts()
    observed(costs, 2, 1.0)
    assert costs.seconds(1) == 0.5  # fewer rows are worth a try
    assert costs.seconds(64) == 1.0
    observed(costs, 8, 4.0)
    assert [costs.seconds(rows) for rows in (2, 4, 6, 8, 16)] == [1.0, 2.0, 3.0, 4.0, 8.0]
    observed(costs, 16, 3.0)
    assert costs.seconds(32) == 3.0, "more rows never seem to cost less"
    assert costs.most_rows == 32


def test_rows_of_a_range_cost_the_same() -> None:
    costs = StepCosts()
    observed(costs, 1, 1.0)
    for rows in (13, 14, 16):
        costs.observe(rows, 2.0)
    assert costs.seconds(13) == costs.seconds(15) == costs.seconds(16) == 2.0


def test_a_hiccup_does_not_tell() -> None:
    costs = StepCosts()
    observed(costs, 1, 1.0, 5)
    costs.observe(1, 100.0)
    assert costs.seconds(1) == 1.0


def test_what_was_not_seen_for_long_is_tried_again_the_later_the_more_it_cost() -> None:
    costs = StepCosts()
    observed(costs, 2, 2.0)
    observed(costs, 4, 8.0)
    observed(costs, 1, 1.0, 90)
    assert (costs.seconds(2), costs.seconds(4)) == (2.0, 8.0)
    observed(costs, 1, 1.0, 10)  # more than three times 16 times twice as much
    assert costs.seconds(2) == pytest.approx(1.0 + 7.0 / 3.0)
    assert costs.seconds(4) == 8.0
    observed(costs, 1, 1.0, 300)
    assert costs.seconds(4) == 1.0


def test_what_was_seen_often_is_tried_again_later() -> None:
    costs = StepCosts()
    observed(costs, 2, 2.0, 8)
    observed(costs, 1, 1.0, 250)
    assert costs.seconds(2) == 2.0
    observed(costs, 1, 1.0, 10)
    assert costs.seconds(2) == 1.0
    costs.observe(2, 1.5)
    assert costs.seconds(2) == 2.0, "one shorter step does not tell"
    observed(costs, 2, 1.5, 2)
    assert costs.seconds(2) == 1.5


def test_what_a_clock_cannot_tell_is_not_for_nothing() -> None:
    costs = StepCosts()
    observed(costs, 1, 0.0)
    observed(costs, 4, 0.0)
    assert costs.seconds(1) > 0.0
    assert costs.seconds(16) > 0.0


def test_of_several_measurements_the_shorter_ones_tell() -> None:
    assert typical([3.0]) == 3.0
    assert typical([9.0, 1.0, 2.0]) == 1.0
    assert typical([9.0, 1.0, 2.0, 8.0]) == 2.0
    assert typical([1.0, 9.0, 3.0, 8.0, 7.0, 2.0, 6.0, 5.0]) == 3.0
