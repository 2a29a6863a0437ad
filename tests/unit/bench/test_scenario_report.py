"""The report of the scenarios: every scenario, every time and every broken bound is in it."""

from __future__ import annotations

import pytest

from tandem.bench import SCENARIOS, Outcome, as_markdown, as_page, make_report
from tandem.bench.latency import SEGMENTS, TOTAL, Check, summarise

_SAMPLE = {**dict.fromkeys(SEGMENTS, 1.0), "retries": 0.0, TOTAL: 9.0}


def _outcome(*checks: Check, failures: tuple[str, ...] = ()) -> Outcome:
    samples = [_SAMPLE, _SAMPLE]
    return Outcome(SCENARIOS[0], 1.5, 0, list(failures), summarise(samples), list(checks), samples)


def test_times_are_in_order_and_retries_are_shown_where_there_were_any() -> None:
    names = [name for name, _ in _outcome().rows]
    assert names == [TOTAL, *(name for name in SEGMENTS if name != "retries")]


@pytest.mark.parametrize("write", [as_markdown, as_page])
def test_what_failed_is_named(write: object) -> None:
    assert callable(write)
    late = Check("ttft p95", "11 s", "≤ 10 s", passed=False)
    report = make_report([_outcome(late, failures=("the request failed: <lost>",))])
    text = write(report)
    assert SCENARIOS[0].name in text
    assert not report.passed
    assert "FAIL" in text
    assert "11 s" in text


def test_a_page_shows_no_markup_of_others() -> None:
    text = as_page(make_report([_outcome(failures=("<script>",))]))
    assert "<script>" not in text


def test_one_scenario_that_fails_fails_the_report() -> None:
    good = Check("success", "100 %", "100 %", passed=True)
    assert make_report([_outcome(good)]).passed
    bad = Check("success", "50 %", "100 %", passed=False)
    assert not make_report([_outcome(good), _outcome(bad)]).passed
