"""How fast a provider is taken to be, after what was measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem.coordinator.fleet.speed import (
    FASTEST_DECODE_PER_S,
    FASTEST_PREFILL_PER_S,
    Speed,
)


def test_before_anything_was_measured_an_ordinary_machine_stands_in() -> None:
    speed = Speed()
    assert (speed.prefill_per_s, speed.decode_per_s(1)) == (500.0, 10.0)
    speed.saw_first_token(0, 1.0)
    speed.saw_first_token(10, 0.0)
    speed.saw_decode(0.0, 1.0, 1)
    speed.saw_decode(1.0, 0.0, 1)
    assert (speed.prefill_per_s, speed.decode_per_s(1)) == (500.0, 10.0)


def test_a_long_observation_weighs_more_than_a_short_one() -> None:
    speed = Speed()
    speed.saw_first_token(1000, 1.0)
    speed.saw_first_token(10, 0.1)
    assert 900 < speed.prefill_per_s < 1000


def test_about_the_last_ten_observations_count() -> None:
    speed = Speed()
    for _ in range(100):
        speed.saw_decode(10.0, 1.0, 1)
    for _ in range(30):
        speed.saw_decode(40.0, 1.0, 1)
    assert speed.decode_per_s(1) == pytest.approx(40.0, rel=0.05)


def test_a_step_of_nine_sequences_lasts_twice_as_long_as_one_of_one() -> None:
    speed = Speed()
    speed.saw_decode(20.0, 1.0, 1)
    assert speed.decode_per_s(9) == pytest.approx(10.0)
    assert speed.decode_per_s(0) == speed.decode_per_s(1)


@given(st.floats(0.1, 1e4), st.floats(0.01, 1e3), st.integers(1, 256))
def test_what_was_measured_in_a_batch_is_expected_of_that_batch(
    tokens: float, seconds: float, sequences: int
) -> None:
    speed = Speed()
    speed.saw_decode(tokens, seconds, sequences)
    believed = min(tokens / seconds, FASTEST_DECODE_PER_S)
    assert speed.decode_per_s(sequences) == pytest.approx(believed)
    assert speed.decode_per_s(1) >= speed.decode_per_s(sequences)


def test_nobody_is_believed_to_be_faster_than_any_machine() -> None:
    speed = Speed()
    speed.saw_first_token(5_000, 1e-6)
    speed.saw_decode(2_000.0, 1e-6, 1)
    assert speed.prefill_per_s == pytest.approx(FASTEST_PREFILL_PER_S)
    assert speed.decode_per_s(1) == pytest.approx(FASTEST_DECODE_PER_S)
    for _ in range(60):
        speed.saw_decode(20.0, 1.0, 1)
    assert speed.decode_per_s(1) == pytest.approx(20.0, rel=0.05), "and it is soon forgotten"
