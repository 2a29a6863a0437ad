"""Simulated providers count, through a real coordinator, and every number arrives once."""

from __future__ import annotations

import json

from tests.support.running_up import race


def test_every_token_of_every_stream_arrives_once_and_in_order() -> None:
    size = ("--providers=20", "--streams=10", "--requests=40", "--tokens=8", "--json")
    done = race("throughput", *size)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["wrong"], report["failed"]) == (0, 0)
    assert report["chunks_per_s"] > 0
