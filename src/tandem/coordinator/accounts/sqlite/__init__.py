"""The stores of one data folder, in SQLite."""

from __future__ import annotations

from pathlib import Path

from tandem.coordinator.accounts.sqlite.keys import SQLiteKeys
from tandem.coordinator.accounts.sqlite.ledger import SQLiteLedger
from tandem.coordinator.accounts.sqlite.nodes import SQLiteNodes
from tandem.coordinator.accounts.sqlite.shares import SQLiteShares
from tandem.coordinator.accounts.sqlite.usage import SQLiteUsage


class SQLiteStores:
    """See `ports.Stores`. The usage has a file of its own, all else shares one."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def keys(self) -> SQLiteKeys:
        return SQLiteKeys(self._data_dir)

    def shares(self) -> SQLiteShares:
        return SQLiteShares(self._data_dir)

    def nodes(self) -> SQLiteNodes:
        return SQLiteNodes(self._data_dir)

    def ledger(self) -> SQLiteLedger:
        return SQLiteLedger(self._data_dir)

    def usage(self) -> SQLiteUsage:
        return SQLiteUsage(self._data_dir)
