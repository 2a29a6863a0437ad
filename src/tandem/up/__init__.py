"""A coordinator and its providers as processes of this machine.

`UpService` is one run of `tandem up`: its `Supervisor` starts what `launch_plan` names, watches it
and stops it. Whoever starts Tandem's commands by himself, as benchmarks and tests do, uses
`tandem_command`, `start_process` and `first_event`. `UpService` brings an HTTP library with it when
first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tandem.runtime import on_demand
from tandem.up.child import ChildFailed
from tandem.up.events import ChildEvent, Listening, ProviderReady, UpReady
from tandem.up.launch import (
    UpOptions,
    launch_plan,
    pair_nodes,
    prepare_logs,
    threads_per_provider,
)
from tandem.up.local_cluster import local_rank_arguments, other_rank_here, pair_local_nodes
from tandem.up.processes import STOP_WITH_PARENT, first_event, start_process, tandem_command

if TYPE_CHECKING:
    from tandem.up.service import SessionKeys, UpService

__all__ = [
    "STOP_WITH_PARENT",
    "ChildEvent",
    "ChildFailed",
    "Listening",
    "ProviderReady",
    "SessionKeys",
    "UpOptions",
    "UpReady",
    "UpService",
    "first_event",
    "launch_plan",
    "local_rank_arguments",
    "other_rank_here",
    "pair_local_nodes",
    "pair_nodes",
    "prepare_logs",
    "start_process",
    "tandem_command",
    "threads_per_provider",
]

if not TYPE_CHECKING:  # to a type checker a name that is not imported above does not exist
    __getattr__ = on_demand(__name__, {"service": ("SessionKeys", "UpService")})
