"""What counts as having held."""

from __future__ import annotations

import pytest

from benchmarks.attacks.measure import ATTACKS, Outcome


@pytest.mark.parametrize(
    ("under_ms", "failed", "memory_mb", "holds"),
    [
        (299.0, 0, 399.0, True),
        (301.0, 0, 100.0, False),
        (100.0, 1, 100.0, False),
        (100.0, 0, 401.0, False),
    ],
)
def test_an_attack_is_held_by_all_three(
    under_ms: float, failed: int, memory_mb: float, holds: bool
) -> None:
    outcome = Outcome("x", 100.0, under_ms, 500.0, 10, failed, memory_mb)
    assert outcome.holds is holds


def test_every_attack_says_what_it_does() -> None:
    assert all(attack.__doc__ for attack in ATTACKS.values())
