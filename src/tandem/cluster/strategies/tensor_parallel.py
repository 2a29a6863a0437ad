"""Tensor parallel: every rank runs its slice of each layer, and sums keep the ranks in step.

Rank 0 sends the plan to all, runs its own slice, gathers the logits and samples. A step is never
sent twice: whatever fails ends the session, and a new one starts from an empty cache.
"""

from __future__ import annotations

import torch

from tandem.cluster.collectives.sealed import LinkCommunicator
from tandem.cluster.strategies.base import LinkedExecutor, OtherRanks, RankContext, RankWork
from tandem.engine import LocalExecutor, Stage, StepPlan, tensor_parallel
from tandem.link import LinkUse


def build_executor(context: RankContext) -> LinkedExecutor:
    """Rank 0's end."""
    group = context.sums()
    return TensorParallelExecutor(_load(context, group), group, OtherRanks(context.channels))


def build_work(context: RankContext) -> RankWork:
    """The end of every other rank."""
    group = context.sums()
    return TensorParallelWork(_load(context, group), group)


def _load(context: RankContext, group: LinkCommunicator) -> Stage[torch.Tensor]:
    shard = tensor_parallel(context.setup.config, context.rank, context.size)
    return context.setup.backend.load_stage(context.setup, shard, group, context.blocks)


class TensorParallelExecutor(LocalExecutor[torch.Tensor]):
    """Runs each plan here, while the others run it on their slices."""

    def __init__(
        self, stage: Stage[torch.Tensor], group: LinkCommunicator, others: OtherRanks
    ) -> None:
        super().__init__(stage)
        self._group = group
        self._others = others

    @property
    def link_use(self) -> LinkUse:
        return self._others.link_use

    def submit(self, plan: StepPlan) -> None:
        with self._others.ending_on_failure():
            self._others.announce(plan)
            self._group.begin(plan.step)
            super().submit(plan)

    def close(self) -> None:
        self._others.abort()
        super().close()


class TensorParallelWork:
    """The same plan as rank 0, on this rank's slices."""

    def __init__(self, stage: Stage[torch.Tensor], group: LinkCommunicator) -> None:
        self._stage = stage
        self._group = group

    def run(self, plan: StepPlan) -> None:
        self._group.begin(plan.step)
        run = self._stage.begin(plan)
        run.logits(run.forward())
