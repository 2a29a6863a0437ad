"""The coordinator: an OpenAI-compatible API in front of providers that connect out to it.

One process, one event loop. It never runs a model, and imports neither PyTorch nor the engine.
`CoordinatorConfig` is light; the other names bring uvicorn or SQLAlchemy with them when they are
first asked for, so that a command's `--help` loads neither.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from tandem.coordinator.config import CoordinatorConfig

if TYPE_CHECKING:
    from tandem.coordinator.accounts.sqlite.join_tokens import JoinTokens, load_or_create_join_token
    from tandem.coordinator.accounts.sqlite.keys import CreatedKey, KeyLimits, KeyRecord, KeyStore
    from tandem.coordinator.accounts.sqlite.ledger import Entry, Total, entries, totals
    from tandem.coordinator.requests.trace import Trace
    from tandem.coordinator.service import serve

__all__ = [
    "CoordinatorConfig",
    "CreatedKey",
    "Entry",
    "JoinTokens",
    "KeyLimits",
    "KeyRecord",
    "KeyStore",
    "Total",
    "Trace",
    "entries",
    "load_or_create_join_token",
    "serve",
    "totals",
]

_HEAVY = {
    "accounts.sqlite.join_tokens": ("JoinTokens", "load_or_create_join_token"),
    "accounts.sqlite.keys": ("CreatedKey", "KeyLimits", "KeyRecord", "KeyStore"),
    "accounts.sqlite.ledger": ("Entry", "Total", "entries", "totals"),
    "requests.trace": ("Trace",),
    "service": ("serve",),
}


def __getattr__(name: str) -> object:
    for module, names in _HEAVY.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
