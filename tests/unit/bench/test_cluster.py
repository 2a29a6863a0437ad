"""What a cluster's rounds are put together to."""

from __future__ import annotations

from tandem.bench.cluster import ALONE, WORKLOADS, ClusterReport, Figure


def test_prompts_are_new_in_every_round_and_as_long_as_asked_for() -> None:
    for workload in WORKLOADS:
        first, second = workload.prompts(0), workload.prompts(1)
        assert first == workload.prompts(0)
        assert first != second
        assert {len(prompt) for prompt in first} == {workload.prompt}
        assert len(first) == workload.requests


def test_a_ratio_is_to_one_rank() -> None:
    figures = [Figure(ALONE, {"decode": 5.0}, {}), Figure("tp", {"decode": 8.0}, {})]
    report = ClusterReport("m", 1, figures)
    assert report.ratio("tp", "decode") == 1.6
    assert report.ratio(ALONE, "decode") == 1.0
