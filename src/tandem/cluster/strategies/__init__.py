"""How several ranks run one step: one module a strategy, and one row of this table."""

from __future__ import annotations

from tandem.cluster.strategies import pipeline, tensor_parallel
from tandem.cluster.strategies.base import (
    RankContext,
    RankWork,
    Strategy,
)
from tandem.cluster.strategies.shard_server import ShardServer
from tandem.protocol.cluster import Parallelism

STRATEGIES = {
    Parallelism.TENSOR: Strategy(tensor_parallel.build_executor, tensor_parallel.build_work),
    Parallelism.PIPELINE: Strategy(pipeline.build_executor, pipeline.build_work),
}

__all__ = [
    "STRATEGIES",
    "RankContext",
    "RankWork",
    "ShardServer",
    "Strategy",
]
