"""Executors run step plans. The scheduler above knows no other way to a model.

`LocalExecutor` runs the whole model in this process. An executor over several ranks implements
the same methods, and each of its ranks runs a `Stage`, which a backend loads.
"""

from __future__ import annotations

from typing import Generic, Protocol

from tandem.engine.core.step import StepPlan, StepResult
from tandem.engine.core.tensors import Tensor


class Executor(Protocol):
    """Called from one thread. Plans are run, and results come, in the order of submission."""

    @property
    def stages(self) -> int:
        """How many parts of the model compute at the same time, each on another plan."""
        ...

    @property
    def depth(self) -> int:
        """How many plans are worth having under way at once."""
        ...

    def submit(self, plan: StepPlan) -> None:
        """Begins a step. Raises a TandemError when it is lost; the cache is then void."""
        ...

    def collect(self) -> StepResult:
        """Waits for the oldest submitted step. Raises as `submit` does."""
        ...

    def close(self) -> None:
        """Releases the model's memory; no call follows."""
        ...


class StageRun(Protocol[Tensor]):
    """A plan on its way through one stage."""

    @property
    def rows(self) -> int:
        """How many tokens the plan computes: the first dimension of its states."""
        ...

    def forward(self, states: Tensor | None = None) -> Tensor:
        """(rows, hidden) after this stage's layers; the first stage embeds the tokens itself."""
        ...

    def logits(self, states: Tensor) -> Tensor | None:
        """float32 (samples, vocabulary); None where nothing is sampled, or not on this rank."""
        ...

    def result(self, logits: Tensor | None) -> StepResult:
        """The tokens that are drawn from the logits; none where there are none."""
        ...


class Stage(Protocol[Tensor]):
    """One rank's shard of a model, with the cache of its layers and heads."""

    def begin(self, plan: StepPlan) -> StageRun[Tensor]: ...

    def states_like(self, rows: int) -> Tensor:
        """Shape, dtype and device of the states of so many tokens; the numbers mean nothing."""
        ...


class LocalExecutor(Generic[Tensor]):
    """The whole model, in this process, one step at a time."""

    stages = depth = 1

    def __init__(self, stage: Stage[Tensor]) -> None:
        self._stage = stage
        self._result: StepResult | None = None

    def submit(self, plan: StepPlan) -> None:
        run = self._stage.begin(plan)
        self._result = run.result(run.logits(run.forward()))

    def collect(self) -> StepResult:
        assert self._result is not None, "a step is submitted before it is collected"
        result, self._result = self._result, None
        return result

    def close(self) -> None:
        del self._stage
