"""The face of `tandem.bench`: every name is there, and none is loaded before it is wanted."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tandem import bench


@pytest.mark.parametrize("name", bench.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(bench, name) is not None


def test_what_measures_a_coordinator_loads_no_engine() -> None:
    code = (
        "import sys\nfrom tandem.bench import HOST, BenchmarkFailed, Consumer\nprint(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert not {"torch", "numpy", "tokenizers"}.intersection(done.stdout.split())
