"""Executors run step plans. The scheduler above knows no other way to a model.

An executor runs the whole model in this process, or spreads it over several ranks.
"""

from __future__ import annotations

from typing import Protocol

from tandem.engine.core.step import StepPlan, StepResult


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
