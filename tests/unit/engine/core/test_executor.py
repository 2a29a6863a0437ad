"""The executor of one process: a plan goes through the whole model, one at a time."""

from __future__ import annotations

import pytest

from tandem.engine import LocalExecutor, StepPlan, StepResult


class PlayedRun:
    """States are words; each call says that it was made."""

    rows = 1

    def __init__(self, step: int) -> None:
        self._step = step

    def forward(self, states: str | None = None) -> str:
        assert states is None, "the whole model embeds"
        return f"states {self._step}"

    def logits(self, states: str) -> str | None:
        return f"logits of {states}" if self._step else None

    def result(self, logits: str | None) -> StepResult:
        assert logits == (f"logits of states {self._step}" if self._step else None)
        return StepResult(self._step, [])


class PlayedStage:
    def begin(self, plan: StepPlan) -> PlayedRun:
        return PlayedRun(plan.step)

    def states_like(self, rows: int) -> str:  # noqa: ARG002
        raise AssertionError("nothing is received here")


def test_results_come_as_plans_went() -> None:
    executor = LocalExecutor(PlayedStage())
    assert (executor.stages, executor.depth) == (1, 1)
    for step in (0, 1, 2):
        executor.submit(StepPlan(step, []))
        assert executor.collect() == StepResult(step, [])
    executor.close()


def test_nothing_is_collected_twice() -> None:
    executor = LocalExecutor(PlayedStage())
    executor.submit(StepPlan(1, []))
    executor.collect()
    with pytest.raises(AssertionError, match="submitted before"):
        executor.collect()
