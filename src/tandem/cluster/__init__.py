"""Several machines as one provider: membership, plan, session, executors over sealed links."""

from __future__ import annotations

from tandem.cluster.config import ClusterConfig, Host
from tandem.cluster.facts import (
    NodeFacts,
    available_memory_bytes,
    measure_node,
)
from tandem.cluster.node import ClusterNode
from tandem.cluster.state import State

__all__ = [
    "ClusterConfig",
    "ClusterNode",
    "Host",
    "NodeFacts",
    "State",
    "available_memory_bytes",
    "measure_node",
]
