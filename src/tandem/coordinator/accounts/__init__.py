"""Who may ask for what: keys, limits, the ledger, join tokens."""

from __future__ import annotations
