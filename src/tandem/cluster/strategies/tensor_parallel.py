"""Tensor parallel: every rank runs its slice of each layer, and sums keep the ranks in step.

Rank 0 sends the plan to all, runs its own slice, gathers the logits and samples. A step is never
sent twice: whatever fails ends the session, and a new one starts from an empty cache.
"""

from __future__ import annotations

from typing import Any, Generic

from tandem.cluster.strategies.base import (
    OtherRanks,
    RankContext,
    RankWork,
    SteppedStage,
)
from tandem.engine import Executor, LocalExecutor, StepPlan, tensor_parallel
from tandem.engine.core.tensors import Tensor


def build_executor(context: RankContext) -> Executor:
    """Rank 0's end."""
    return TensorParallelExecutor(_load(context), OtherRanks(context.channels))


def build_work(context: RankContext) -> RankWork:
    """The end of every other rank."""
    return TensorParallelWork(_load(context))


def _load(context: RankContext) -> SteppedStage[Any]:
    sums = context.open_sums()
    shard = tensor_parallel(context.setup.config, context.rank, context.size)
    return SteppedStage(context.load(shard, sums), sums)


class TensorParallelExecutor(LocalExecutor[Tensor]):
    """Runs each plan here, while the others run it on their slices."""

    def __init__(self, stage: SteppedStage[Tensor], others: OtherRanks) -> None:
        super().__init__(stage)
        self._others = others

    def submit(self, plan: StepPlan) -> None:
        with self._others.ending_on_failure():
            self._others.announce(plan)
            super().submit(plan)

    def close(self) -> None:
        self._others.abort()
        super().close()


class TensorParallelWork(Generic[Tensor]):
    """The same plan as rank 0, on this rank's slices."""

    def __init__(self, stage: SteppedStage[Tensor]) -> None:
        self._stage = stage

    def run(self, plan: StepPlan) -> None:
        run = self._stage.begin(plan)
        run.logits(run.forward())
