"""A service's figures are what its clients saw."""

from __future__ import annotations

import math

from benchmarks.service import Clients, Sample, ServiceReport, Spread

CLIENTS = Clients(concurrency=2, requests=2, prompt_words=4, max_tokens=8)


def test_decode_speed_counts_the_tokens_after_the_first() -> None:
    assert Sample(0.5, 2.5, 10, 5).decode_tokens_per_s == 2.0


def test_an_answer_of_one_token_has_no_speed() -> None:
    assert Sample(0.5, 0.5, 10, 1).decode_tokens_per_s is None


def test_a_spread_of_little_is_what_there_is() -> None:
    assert Spread.of([3.0]) == Spread(3.0, 3.0)
    assert math.isnan(Spread.of([]).p50)
    assert Spread.of([0.0, 100.0]) == Spread(50.0, 95.0)


def test_the_report_adds_up_all_requests() -> None:
    samples = [Sample(0.5, 2.5, 10, 5), Sample(1.0, 1.0, 20, 1)]
    report = ServiceReport.of("m", CLIENTS, samples, 3.0)
    assert (report.prompt_tokens, report.completion_tokens) == (30, 6)
    assert report.total_tokens_per_s == 2.0
    assert report.decode_tokens_per_s == Spread(2.0, 2.0)
