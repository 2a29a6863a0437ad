"""The coordinator: an OpenAI-compatible API in front of providers that connect out to it.

One process, one event loop. It never runs a model, and imports neither PyTorch nor the engine.
"""

from __future__ import annotations

from tandem.coordinator.accounts.sqlite.join_tokens import JoinTokens, load_or_create_join_token
from tandem.coordinator.accounts.sqlite.keys import CreatedKey, KeyLimits, KeyRecord, KeyStore
from tandem.coordinator.accounts.sqlite.ledger import Entry, Total, entries, totals
from tandem.coordinator.config import CoordinatorConfig
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
