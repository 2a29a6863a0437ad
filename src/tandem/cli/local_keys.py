"""API keys of the coordinator on this machine, and those that live as long as `tandem up`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tandem.client import read_service_address, split_pin
from tandem.runtime import create_data_dir

if TYPE_CHECKING:
    from tandem.coordinator import Keys
    from tandem.up import SessionKeys

#: The names of the keys that `tandem up` makes for its session, and revokes at the end.
SESSION_USER, SESSION_OPERATOR = "up", "up-operator"
SESSION_KEY_NAMES = {SESSION_USER, SESSION_OPERATOR}


def address_and_pin(data_dir: Path) -> tuple[str | None, str | None]:
    """Where the folder's coordinator has listened last, and what its key is known by."""
    address = read_service_address(data_dir)
    return (None, None) if address is None else (address, split_pin(address)[1])


@contextmanager
def open_keys(data_dir: Path) -> Iterator[Keys]:
    from tandem.coordinator import stores_in

    create_data_dir(data_dir)
    with closing(stores_in(data_dir).keys()) as opened:
        yield opened


@contextmanager
def session_keys(data_dir: Path) -> Iterator[SessionKeys]:
    """API keys that live as long as the session. Those of sessions that were killed go first."""
    from tandem.coordinator import KeyRole
    from tandem.up import SessionKeys

    with open_keys(data_dir) as store:
        _revoke_session_keys(store)
        keys = SessionKeys(
            user=store.create(SESSION_USER).key,
            operator=store.create(SESSION_OPERATOR, role=KeyRole.OPERATOR).key,
        )
    try:
        yield keys
    finally:
        with open_keys(data_dir) as store:
            _revoke_session_keys(store)


def _revoke_session_keys(store: Keys) -> None:
    for record in store.list():
        if record.name in SESSION_KEY_NAMES and record.revoked_at is None:
            store.revoke(str(record.id))
