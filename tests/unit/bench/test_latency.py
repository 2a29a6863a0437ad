"""A request's time, taken apart: nothing is inferred, and nothing that is missing passes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem import protocol
from tandem.bench.latency import SEGMENTS, TOTAL, Check, checks, decompose, summarise
from tandem.bench.streams import TimedAnswer
from tandem.coordinator import Trace

#: Seconds that each segment takes, in order.
TAKEN = [0.001, 0.002, 0.0, 0.0005, 0.001, 0.003, 0.1, 0.4, 0.002, 0.001]


def answer(taken: list[float]) -> TimedAnswer:
    times = [1_000_000.0]
    for seconds in taken:
        times.append(times[-1] + seconds)
    timings = protocol.Timings(*times[5:9])
    received, placed, placed_last, sealed = times[1:5]
    trace = Trace(received, placed, placed_last, sealed, timings, times[9])
    return TimedAnswer("text", times[0], 0.2, times[-1] - times[0], trace)


def failed(found: list[Check]) -> set[str]:
    return {check.name for check in found if not check.passed}


def test_every_segment_is_what_passed_between_two_clock_readings() -> None:
    parts = decompose(answer(TAKEN), 41)
    assert [parts[name] for name in SEGMENTS] == pytest.approx([s * 1e3 for s in TAKEN], abs=1e-3)
    assert parts[TOTAL] == pytest.approx(sum(TAKEN) * 1e3, abs=1e-3)
    assert parts["decode_tps"] == pytest.approx(100, rel=1e-3)


@given(st.lists(st.floats(0.001, 2), min_size=10, max_size=10))
def test_segments_sum_to_the_total_whatever_they_are(taken: list[float]) -> None:
    parts = decompose(answer(taken), 8)
    assert sum(parts[name] for name in SEGMENTS) == pytest.approx(parts[TOTAL], rel=1e-3)


def test_a_request_that_moved_says_nothing_about_decoding_speed() -> None:
    taken = [*TAKEN]
    taken[SEGMENTS.index("retries")] = 0.5
    assert "decode_tps" not in decompose(answer(taken), 41)


def test_all_is_well() -> None:
    found = checks([decompose(answer(TAKEN), 41)] * 3, 3)
    assert not failed(found)
    assert "e2e_encrypt p95" in {check.name for check in found}


def test_a_failed_request_fails() -> None:
    assert failed(checks([decompose(answer(TAKEN), 41)], 2)) == {
        "success",
        "every segment present",
    }


def test_an_answer_without_a_trace_fails() -> None:
    untraced = msgspec.structs.replace(answer(TAKEN), trace=None)
    assert failed(checks([decompose(untraced, 41)], 1)) == {"every segment present"}


def test_time_that_no_segment_has_fails() -> None:
    given = answer(TAKEN)
    longer = msgspec.structs.replace(given, total_s=given.total_s * 1.05)
    sample = decompose(longer, 41)
    sample["provider_to_client"] = 1.0
    assert failed(checks([sample], 1)) == {"segments sum to the total"}


def test_clocks_that_disagree_fail_though_the_sum_is_right() -> None:
    taken = [*TAKEN]
    taken[SEGMENTS.index("coordinator_to_provider")] = -0.002
    assert failed(checks([decompose(answer(taken), 41)], 1)) == {"no segment is negative"}


@pytest.mark.parametrize(
    ("segment", "seconds"),
    [
        ("queue_wait", 31.0),
        ("e2e_encrypt", 0.0021),
        ("coordinator_to_provider", 0.021),
        ("ttft", 11.0),
    ],
)
def test_a_broken_bound_is_named(segment: str, seconds: float) -> None:
    taken = [*TAKEN]
    taken[SEGMENTS.index(segment)] = seconds
    assert f"{segment} mean" in failed(checks([decompose(answer(taken), 41)], 1))


def test_the_summary_has_the_usual_figures() -> None:
    stats = summarise([{TOTAL: float(value)} for value in range(1, 102)])[TOTAL]
    assert (stats.count, stats.mean, stats.median, stats.max) == (101, 51, 51, 101)
    assert (stats.p95, stats.p99) == (96, 100)
