"""The stores of accounts, in SQLite."""

from __future__ import annotations
