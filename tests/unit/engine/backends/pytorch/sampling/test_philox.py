"""Draws: those of numpy, and of what they are keyed by alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.backends.pytorch.sampling.philox import uniform


@given(st.integers(0, 2**64 - 1), st.integers(0, 127), st.integers(0, 2**31))
def test_draws_are_those_of_numpys_philox(seed: int, choice: int, position: int) -> None:
    key = np.array([seed, choice], dtype=np.uint64)
    bits = int(np.random.Philox(key=key, counter=position).random_raw())
    assert uniform(seed, choice, position) == (bits >> 11) / 2**53


@given(st.integers(0, 2**64 - 1), st.integers(0, 127), st.integers(0, 2**31))
def test_a_draw_depends_on_seed_choice_and_position(seed: int, choice: int, position: int) -> None:
    drawn = uniform(seed, choice, position)
    assert 0.0 <= drawn < 1.0
    assert drawn == uniform(seed, choice, position)
    others = {uniform(seed ^ 1, choice, position), uniform(seed, choice + 1, position)}
    assert drawn not in {*others, uniform(seed, choice, position + 1)}
