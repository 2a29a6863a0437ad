"""Where a nucleus ends: beside sorting everything."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.backends.pytorch.sampling.nucleus import nucleus_floors, wide_nucleus_floor


@given(
    st.lists(st.floats(0.0, 1.0, width=32), min_size=1, max_size=60).filter(any),
    st.floats(0.01, 1.0),
)
def test_a_wide_nucleus_is_that_of_sorting_everything(weights: list[float], top_p: float) -> None:
    probabilities = np.array(weights, np.float32)
    target = top_p * float(probabilities.sum(dtype=np.float64))
    ranked = np.sort(probabilities)[::-1]
    reached = ranked.cumsum(dtype=np.float64)
    found = wide_nucleus_floor(probabilities, target)
    assert found in probabilities
    assert found > 0.0
    inside = probabilities[probabilities >= found].sum(dtype=np.float64)
    without = probabilities[probabilities > found].sum(dtype=np.float64)
    assert inside >= target * (1 - 1e-9)
    assert without < target or without == pytest.approx(target)
    assert reached[-1] >= inside


def test_a_nucleus_wider_than_what_is_looked_at_first() -> None:
    probabilities = torch.softmax(torch.arange(4000, dtype=torch.float32) / 4000, dim=-1)
    floor = float(nucleus_floors(probabilities[None], torch.tensor([[0.5]])))
    mass = float(probabilities[probabilities >= floor].double().sum())
    assert 0.5 <= mass < 0.5 + 2 * floor
