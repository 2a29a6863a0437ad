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

STRATEGIES: dict[Parallelism, Strategy] = {
    Parallelism.TENSOR: tensor_parallel,
    Parallelism.PIPELINE: pipeline,
}

__all__ = [
    "STRATEGIES",
    "RankContext",
    "RankWork",
    "ShardServer",
    "Strategy",
]
