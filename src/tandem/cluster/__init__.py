"""Several machines as one provider: membership, plan, session, executors over sealed links."""

from __future__ import annotations

from tandem.cluster.check import Check, check_cluster
from tandem.cluster.collectives import COLLECTIVES, Rendezvous, SealedCommunicator
from tandem.cluster.config import ClusterConfig, Host
from tandem.cluster.discovery import hosts_behind
from tandem.cluster.facts import (
    NodeFacts,
    available_memory_bytes,
    measure_node,
)
from tandem.cluster.node import ClusterNode
from tandem.cluster.one_session import Asker, Instruments, run_alone, run_clustered
from tandem.cluster.state import State

__all__ = [
    "COLLECTIVES",
    "Asker",
    "Check",
    "ClusterConfig",
    "ClusterNode",
    "Host",
    "Instruments",
    "NodeFacts",
    "Rendezvous",
    "SealedCommunicator",
    "State",
    "available_memory_bytes",
    "check_cluster",
    "hosts_behind",
    "measure_node",
    "run_alone",
    "run_clustered",
]
