"""Tensor parallel: every rank runs its slice of each layer, and sums keep the ranks in step.

Rank 0 sends the plan to all, runs its own slice, gathers the logits and samples. A step is never
sent twice: whatever fails ends the session, and a new one starts from an empty cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic

from tandem.cluster.members import Member
from tandem.cluster.strategies.base import (
    OtherRanks,
    RankContext,
    RankWork,
    SteppedStage,
)
from tandem.cluster.strategies.costs import WEIGHTS_SHARE, Held, model_bytes, read_bytes
from tandem.engine import Executor, LocalExecutor, StepPlan, Tensor, tensor_parallel
from tandem.errors import PeerRefused
from tandem.protocol.cluster import ModelFacts, Part


def divide(members: Sequence[Member]) -> list[Part]:
    """Every rank has a slice of every layer. Raises PeerRefused when heads do not divide."""
    model, size = members[0].hello.model, len(members)
    if model.kv_heads % size:
        raise PeerRefused(f"{model.kv_heads} KV heads do not divide among {size} ranks: use pp")
    share = model_bytes(model) / size
    for member in members:
        if share > member.hello.memory_bytes * WEIGHTS_SHARE:
            raise PeerRefused(
                f"{member.hello.name} has no memory for {share / 1e9:.1f} GB of weights"
            )
    return [Part(member.node_id, 0, model.layers) for member in members]


def is_whole(parts: Sequence[Part], layers: int) -> bool:
    return all((part.first_layer, part.end_layer) == (0, layers) for part in parts)


def token_s(members: Sequence[Member], parts: Sequence[Part], hop_s: float) -> float:
    """The slowest rank reads its share; two sums a layer, one for the embedding, and the logits."""
    model = members[0].hello.model
    slowest = min(member.hello.bytes_per_s for member in members)
    weights = read_bytes(model) + model.embedding_bytes
    return weights / len(parts) / slowest + (2 * model.layers + 2) * hop_s


def held(model: ModelFacts, parts: Sequence[Part], rank: int) -> Held:  # noqa: ARG001 - all alike
    shares = len(parts) if model.kv_divides else 1
    return Held(model_bytes(model) / len(parts), model.kv_bytes_per_token / shares)


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
