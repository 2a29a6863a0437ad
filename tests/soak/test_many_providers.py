"""Five thousand providers and five hundred streams at one coordinator process."""

from __future__ import annotations

import json

import pytest
from tests.support.running_up import race


@pytest.mark.timeout(1800)
def test_no_chunk_is_lost_or_repeated_and_memory_is_bounded() -> None:
    arguments = ("--providers=5000", "--streams=500", "--requests=1000", "--tokens=16", "--json")
    done = race("throughput", *arguments, timeout_s=1700)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["wrong"], report["failed"]) == (0, 0)
    assert report["peak_mib"] < 600
