"""Which stores there are. The only module that names an implementation: a row each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tandem.coordinator.accounts.ports import Stores


def _sqlite(data_dir: Path) -> Stores:
    from tandem.coordinator.accounts.sqlite import SQLiteStores  # brings SQLAlchemy

    return SQLiteStores(data_dir)


STORES: dict[str, Callable[[Path], Stores]] = {"sqlite": _sqlite}


def stores_in(data_dir: Path, kind: str = "sqlite") -> Stores:
    """The stores of the deployment with this data folder; nothing is opened yet."""
    return STORES[kind](data_dir)
