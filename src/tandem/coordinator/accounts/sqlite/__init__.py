"""The stores of one data folder, in SQLite."""

from __future__ import annotations

from pathlib import Path

from tandem.coordinator.accounts.sqlite.join_tokens import SQLiteJoinTokens
from tandem.coordinator.accounts.sqlite.keys import SQLiteKeys
from tandem.coordinator.accounts.sqlite.ledger import SQLiteLedger
from tandem.coordinator.accounts.sqlite.shares import SQLiteShares
from tandem.coordinator.accounts.sqlite.usage import SQLiteUsage


class SQLiteStores:
    """See `ports.Stores`. Keys, shares and tokens are in one file, the usage has one of its own."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def keys(self) -> SQLiteKeys:
        return SQLiteKeys(self._data_dir)

    def shares(self) -> SQLiteShares:
        return SQLiteShares(self._data_dir)

    def join_tokens(self) -> SQLiteJoinTokens:
        return SQLiteJoinTokens(self._data_dir)

    def ledger(self) -> SQLiteLedger:
        return SQLiteLedger(self._data_dir)

    def usage(self) -> SQLiteUsage:
        return SQLiteUsage(self._data_dir)
