"""What has grown, and what only moved."""

from __future__ import annotations

import pytest

from tandem.bench.soak import Growth, SoakReport


@pytest.mark.parametrize(
    ("early", "late", "passed"),
    [(100.0, 100.0, True), (100.0, 106.0, True), (100.0, 106.1, False), (5.0, 8.1, True)],
)
def test_a_few_and_a_few_percent_are_noise(early: float, late: float, passed: bool) -> None:
    assert Growth("coordinator", "files", early, late).passed is passed


def test_a_failed_request_fails_though_nothing_grew() -> None:
    grown = [Growth("coordinator", "files", 1.0, 1.0)]
    assert SoakReport(60.0, 10, [], grown).passed
    assert not SoakReport(60.0, 10, ["lost"], grown).passed
