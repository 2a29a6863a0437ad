"""Arithmetic of the compiled loops: exponentials, rounding to bfloat16."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine.backends.pytorch.kernels import compiled


@given(st.floats(-90.0, 0.0, width=32))
@settings(max_examples=500, deadline=None)
def test_exponentials_are_those_of_the_c_library(number: float) -> None:
    expected = math.exp(max(number, -87.0))
    assert compiled._exp(np.float32(number)) == pytest.approx(expected, rel=2e-7)


def test_the_exponential_of_what_is_not_a_number_is_none() -> None:
    assert math.isnan(compiled._exp(np.float32(math.nan)))


@given(st.floats(width=32))
@settings(max_examples=500, deadline=None)
def test_bfloat16_is_rounded_as_pytorch_rounds(number: float) -> None:
    bits = np.array([compiled.rounded(np.float32(number))], dtype=np.int16)
    found = torch.from_numpy(bits).view(torch.bfloat16)
    expected = torch.tensor([number], dtype=torch.float32).bfloat16()
    assert torch.equal(found, expected) or (bool(found.isnan()) and bool(expected.isnan()))


def test_loops_run_where_nothing_can_be_kept() -> None:
    """As in somebody else's installation, without a home that can be written to."""
    script = (
        "from numba.core import caching; caching.CacheImpl._locator_classes = []\n"
        "import numpy as np\n"
        "from tandem.engine.backends.pytorch.kernels import compiled\n"
        "print(compiled.rounded(np.float32(1.0)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == str(0x3F80)
    assert "compiled_loops_not_kept" in done.stdout + done.stderr
