"""A processor with fewer instructions is played by what its processes are told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.engines.instructions import Instructions, restrict
from tandem.engine.backends.pytorch.kernels.tiled.vectors import X86


def test_nothing_is_said_where_all_may_be_used() -> None:
    environment = {"PATH": "x"}
    restrict(Instructions.NATIVE, environment)
    assert environment == {"PATH": "x"}


@pytest.mark.skipif(not X86, reason="other processors have other instructions")
def test_contenders_with_avx2_see_no_more_than_that() -> None:
    environment = dict(os.environ)
    restrict(Instructions.AVX2, environment)
    seen = (
        "import torch\n"
        "from tandem.engine.backends.pytorch.kernels.packed import PackedWeight\n"
        "from tandem.engine.backends.pytorch.kernels.tiled.vectors import WIDTH\n"
        "print(torch.backends.cpu.get_cpu_capability(), WIDTH.lanes, PackedWeight.is_fast())"
    )
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", seen], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["AVX2", "8", "False"]
