"""What is counted around a session's parts, and that the parts notice nothing of it."""

from __future__ import annotations

from pathlib import Path

from tests.support.links import channels

from tandem.bench.stopwatch import StepsTaken, Stopwatch
from tandem.engine import StepPlan, StepResult
from tandem.protocol.cluster import PlanHeader


class _Executor:
    stages, depth = 1, 2

    def __init__(self) -> None:
        self.done: list[object] = []

    def submit(self, plan: StepPlan) -> None:
        self.done.append(plan)

    def collect(self) -> StepResult:
        return StepResult(7, [])

    def close(self) -> None:
        self.done.append("closed")


def test_frames_and_bytes_of_both_directions_are_counted(tmp_path: Path) -> None:
    watch = Stopwatch()
    with channels(tmp_path) as (zero, one):
        timed = watch.channel(zero)
        timed.send(PlanHeader(1), b"abc")
        assert one.receive() == (PlanHeader(1), bytearray(b"abc"))
        one.send(PlanHeader(2), b"de")
        assert timed.receive() == (PlanHeader(2), bytearray(b"de"))
        one.send(PlanHeader(3), b"f")
        assert timed.swap(PlanHeader(4), b"gh") == (PlanHeader(3), bytearray(b"f"))
    assert (watch.taken.frames, watch.taken.bytes) == (4, 8)
    assert watch.taken.link_seconds > 0


def test_steps_are_counted_when_their_results_come() -> None:
    watch, inner = Stopwatch(), _Executor()
    timed = watch.executor(inner)
    before = watch.taken
    plan = StepPlan(7, [])
    timed.submit(plan)
    assert watch.taken.steps == 0
    assert timed.collect() == StepResult(7, [])
    timed.close()
    assert inner.done == [plan, "closed"]
    assert (timed.stages, timed.depth) == (1, 2)
    assert watch.taken.since(before).steps == 1


def test_a_difference_is_taken_field_by_field() -> None:
    assert StepsTaken(5, 4.0, 3.0, 2, 9).since(StepsTaken(1, 1.0, 1.0, 1, 1)) == StepsTaken(
        4, 3.0, 2.0, 1, 8
    )
