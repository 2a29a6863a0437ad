"""The benchmarks measure: every contender, every size, and a report that adds up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.running_up import race, tandem


def _memory_of_pytorch_mib() -> float:
    program = "import torch, psutil; print(psutil.Process().memory_info().rss / 2**20)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return float(done.stdout)


_SMALL = ("--size=tiny", "--rounds=1", "--prompt=32", "--tokens=4", "--requests=20", "--json")
_SHAPES = {"prefill", *(f"decode {batch}" for batch in (1, 4, 8, 16))}


def _kinds(report: dict[str, Any], workloads: set[str]) -> set[tuple[str, str]]:
    """Who was measured: in each of the workloads, with a speed."""
    for figure in report["figures"]:
        assert set(figure["tokens_per_s"]) == workloads
        assert min(figure["tokens_per_s"].values()) > 0
    return {(figure["name"], figure["kind"]) for figure in report["figures"]}


@pytest.mark.timeout(1800)
def test_engines_are_compared_on_the_same_weights() -> None:
    done = race("engines", *_SMALL, timeout_s=1700)
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    peers = {("transformers", "bf16 generate"), ("transformers", "bf16 continuous")}
    assert _kinds(reports["streams"], {"16 mixed"}) == {("tandem", "bf16"), *peers}
    measured = _kinds(reports["shapes"], _SHAPES)
    assert measured >= {("tandem", "bf16"), ("tandem", "int8"), ("transformers", "bf16")}
    # The tiny model and its cache take 20 MiB: what remains is the engine's own.
    ours = reports["shapes"]["figures"][0]["memory_mib"]
    assert 0 < ours - _memory_of_pytorch_mib() < 300


@pytest.mark.timeout(1800)
def test_the_engine_is_measured_by_itself_with_what_int8_and_batches_gain(tmp_path: Path) -> None:
    done = tandem("bench", "engine", *_SMALL, data_dir=tmp_path, timeout_s=1700)
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout)
    own = {("tandem", "bf16"), ("tandem", "int8")}
    assert _kinds(reports["shapes"], _SHAPES) == own
    assert _kinds(reports["streams"], {"16 mixed"}) == own
    assert set(reports["shapes"]["ratios"]["int8 / bf16"]) == _SHAPES
    assert set(reports["streams"]["ratios"]) == {"int8 / bf16"}


@pytest.mark.timeout(1800)
def test_sealed_sums_are_compared_with_gloo(tmp_path: Path) -> None:
    done = tandem("bench", "link", "--json", data_dir=tmp_path, timeout_s=1700)
    assert done.returncode == 0, done.stderr
    latencies = json.loads(done.stdout)
    assert [found["size"] for found in latencies] == [1024 * 4**power for power in range(8)]
    assert all(found["sealed_s"] > 0 and found["gloo_s"] > 0 for found in latencies)


@pytest.mark.timeout(1800)
def test_what_a_coordinator_costs_is_measured() -> None:
    done = race("scaling", "--rounds=1", "--json", timeout_s=1700)
    assert done.returncode == 0, done.stderr
    scaling = json.loads(done.stdout)
    sizes = [(one["providers"], one["streams"]) for one in scaling]
    assert sizes == [(10, 10), (10, 100), (10, 1000), (500, 100), (5000, 100)]
    assert all(one["chunk_us"] > 0 for one in scaling)


@pytest.mark.timeout(1800)
def test_gateways_are_compared_in_front_of_one_backend() -> None:
    done = race("gateways", "--rounds=1", "--json", timeout_s=1700)
    assert done.returncode == 0, done.stderr
    ours, *_ = json.loads(done.stdout)["gateways"]
    assert ours["name"] == "tandem"
    assert min(ours["requests_per_s"], ours["chunks_per_s"], ours["added_calm_ms"]) > 0


@pytest.mark.timeout(1800)
def test_nothing_grows_under_load(tmp_path: Path) -> None:
    done = tandem("bench", "soak", "--minutes=1", "--json", data_dir=tmp_path, timeout_s=1700)
    report = json.loads(done.stdout)
    assert report["failures"] == []
    assert done.returncode == 0, report["growth"]
    assert report["requests"] > 50
    assert {one["process"] for one in report["growth"]} == {"coordinator", "rank-0", "rank-1"}
