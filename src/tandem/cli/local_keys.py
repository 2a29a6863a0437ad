"""API keys of the coordinator on this machine, and the one that lives as long as `tandem up`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tandem.runtime import create_data_dir

if TYPE_CHECKING:
    from tandem.coordinator import Keys

#: The name of the key that `tandem up` makes for its session, and revokes at the end.
SESSION_KEY_NAME = "up"


@contextmanager
def open_keys(data_dir: Path) -> Iterator[Keys]:
    from tandem.coordinator import stores_in

    create_data_dir(data_dir)
    with closing(stores_in(data_dir).keys()) as opened:
        yield opened


@contextmanager
def session_key(data_dir: Path) -> Iterator[str]:
    """An API key that lives as long as the session. Keys of sessions that were killed go first."""
    with open_keys(data_dir) as store:
        _revoke_session_keys(store)
        key = store.create(SESSION_KEY_NAME).key
    try:
        yield key
    finally:
        with open_keys(data_dir) as store:
            _revoke_session_keys(store)


def _revoke_session_keys(store: Keys) -> None:
    for record in store.list():
        if record.name == SESSION_KEY_NAME and record.revoked_at is None:
            store.revoke(str(record.id))
