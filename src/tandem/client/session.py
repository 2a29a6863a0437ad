"""What a running `tandem up` leaves in its data folder: the session file and the lock.

`session.json` (0600: it holds an API key) tells `chat`, `run` and `status` where to connect. The
lock file keeps a second `tandem up` off the same folder.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from tandem.errors import ConfigurationError
from tandem.runtime import only_one

_SESSION_FILE = "session.json"
_LOCK_FILE = "up.lock"
_ADDRESS_FILE = "service-address"


def write_service_address(data_dir: Path, address: str) -> None:
    """Where the folder's coordinator listens, with its pin if any: for whoever makes keys."""
    _replace(data_dir / _ADDRESS_FILE, address.encode())


def read_service_address(data_dir: Path) -> str | None:
    """Where the folder's coordinator has listened last; None where none has."""
    try:
        return (data_dir / _ADDRESS_FILE).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


class UpSession(msgspec.Struct, frozen=True):
    """Where a running `tandem up` serves, and the operator's key that it has made."""

    base_url: str
    api_key: str


def session_path(data_dir: Path) -> Path:
    return data_dir / _SESSION_FILE


def write_session(data_dir: Path, session: UpSession) -> None:
    _replace(session_path(data_dir), msgspec.json.encode(session))


def _replace(path: Path, line: bytes) -> None:
    """A private file with one line, replaced in one step: no reader ever sees half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(line + b"\n")
    draft.replace(path)


def read_session(data_dir: Path) -> UpSession | None:
    """The session of the `tandem up` that runs on this folder, or None."""
    path = session_path(data_dir)
    try:
        return msgspec.json.decode(path.read_bytes(), type=UpSession)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is damaged ({error}): remove it") from error


def remove_session(data_dir: Path) -> None:
    session_path(data_dir).unlink(missing_ok=True)


def exclusive(data_dir: Path) -> AbstractContextManager[None]:
    """Holds the folder for one `tandem up`; raises ConfigurationError naming which has it."""
    return only_one("`tandem up`", data_dir, _LOCK_FILE)
