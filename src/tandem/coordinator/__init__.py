"""The coordinator: an OpenAI-compatible API in front of providers that connect out to it.

One process, one event loop. It never runs a model, and imports neither PyTorch nor the engine.
`CoordinatorConfig` is light; what the other names bring with them (uvicorn, cryptography) is loaded
when they are first asked for, so that a command's `--help` loads none of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tandem.coordinator.config import (
    DEFAULT_MAX_WAITING,
    DEFAULT_PATIENCE_S,
    DEFAULT_REQUEST_TIMEOUT_S,
    CoordinatorConfig,
)
from tandem.runtime import on_demand

if TYPE_CHECKING:
    from tandem.coordinator.accounts.join_token import load_or_create_join_token
    from tandem.coordinator.accounts.ports import Keys, Nodes, Shares
    from tandem.coordinator.accounts.records import (
        CreatedKey,
        Entry,
        JoinToken,
        KeyLimits,
        KeyRecord,
        KeyRole,
        Node,
        Share,
        Total,
    )
    from tandem.coordinator.accounts.stores import stores_in
    from tandem.coordinator.api.browsers import parse_origin
    from tandem.coordinator.requests.trace import Trace
    from tandem.coordinator.service import serve

__all__ = [
    "DEFAULT_MAX_WAITING",
    "DEFAULT_PATIENCE_S",
    "DEFAULT_REQUEST_TIMEOUT_S",
    "CoordinatorConfig",
    "CreatedKey",
    "Entry",
    "JoinToken",
    "KeyLimits",
    "KeyRecord",
    "KeyRole",
    "Keys",
    "Node",
    "Nodes",
    "Share",
    "Shares",
    "Total",
    "Trace",
    "load_or_create_join_token",
    "parse_origin",
    "serve",
    "stores_in",
]

if not TYPE_CHECKING:  # to a type checker a name that is not imported above does not exist
    __getattr__ = on_demand(
        __name__,
        {
            "accounts.join_token": ("load_or_create_join_token",),
            "accounts.ports": ("Keys", "Nodes", "Shares"),
            "accounts.records": (
                "CreatedKey",
                "Entry",
                "JoinToken",
                "KeyLimits",
                "KeyRecord",
                "KeyRole",
                "Node",
                "Share",
                "Total",
            ),
            "accounts.stores": ("stores_in",),
            "api.browsers": ("parse_origin",),
            "requests.trace": ("Trace",),
            "service": ("serve",),
        },
    )
