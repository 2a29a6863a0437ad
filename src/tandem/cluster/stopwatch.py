"""How long the steps of a session take, and how much of it its links."""

from __future__ import annotations

import time

import msgspec

from tandem.cluster.strategies import LinkedExecutor
from tandem.engine import StepPlan, StepResult
from tandem.link import LinkUse


class StepsTaken(msgspec.Struct, frozen=True):
    """`seconds` is rank 0's time in its executor: computing, and on its links."""

    steps: int
    seconds: float
    links: LinkUse

    def since(self, before: StepsTaken) -> StepsTaken:
        links = LinkUse(
            self.links.seconds - before.links.seconds,
            self.links.frames - before.links.frames,
            self.links.bytes - before.links.bytes,
        )
        return StepsTaken(self.steps - before.steps, self.seconds - before.seconds, links)


class WatchedExecutor:
    """Passes everything on, and counts the steps."""

    def __init__(self, executor: LinkedExecutor) -> None:
        self._executor = executor
        self._steps = 0
        self._seconds = 0.0

    @property
    def taken(self) -> StepsTaken:
        """Until now."""
        return StepsTaken(self._steps, self._seconds, self._executor.link_use)

    @property
    def stages(self) -> int:
        return self._executor.stages

    @property
    def depth(self) -> int:
        return self._executor.depth

    def submit(self, plan: StepPlan) -> None:
        began = time.perf_counter()
        self._executor.submit(plan)
        self._seconds += time.perf_counter() - began

    def collect(self) -> StepResult:
        began = time.perf_counter()
        result = self._executor.collect()
        self._seconds += time.perf_counter() - began
        self._steps += 1
        return result

    def close(self) -> None:
        self._executor.close()
