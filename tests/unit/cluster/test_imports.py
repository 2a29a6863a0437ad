"""What importing the cluster loads: no library that computes."""

from __future__ import annotations

import subprocess
import sys


def test_a_cluster_is_imported_without_a_backend() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import tandem.cluster, sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not set(done.stdout.split()) & {"torch", "numpy", "numba", "tokenizers", "safetensors"}
