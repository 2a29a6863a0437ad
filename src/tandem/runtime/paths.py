"""Where state lives when the operator names no place."""

from __future__ import annotations

import os
import stat
from io import FileIO
from pathlib import Path

import platformdirs

from tandem.errors import ConfigurationError


def default_data_dir() -> Path:
    """The platform's per-user data folder, e.g. `~/.local/share/tandem` on Linux.

    Raises ConfigurationError for a user without a home.
    """
    try:
        return platformdirs.user_data_path("tandem", appauthor=False)
    except RuntimeError as error:
        raise ConfigurationError(
            "this user has no home folder to keep data in: name one with --data-dir"
        ) from error


def data_dir_or_default(data_dir: Path | None) -> Path:
    """What the operator names, `~` resolved, or else the platform's folder.

    Raises ConfigurationError for a user without a home.
    """
    try:
        return (data_dir or default_data_dir()).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigurationError(f"{data_dir}: {error}; name another --data-dir") from error


def create_data_dir(data_dir: Path) -> None:
    """Makes the folder, closed to other users: it holds keys. Raises ConfigurationError.

    One of this user's that is there already is closed to others, unless it is a place for all kinds
    of files: a home, or one as `/tmp` is.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = data_dir.stat()
        shared = status.st_mode & stat.S_ISVTX or data_dir == Path(os.path.expanduser("~"))  # noqa: PTH111
        if status.st_mode & 0o077 and status.st_uid == os.getuid() and not shared:
            data_dir.chmod(0o700)
    except OSError as error:
        raise ConfigurationError(
            f"no data can be kept in {data_dir}: {error.strerror}; name a folder with --data-dir"
        ) from error


def open_log(path: Path) -> FileIO:
    """To append to, unbuffered; a new one is its owner's alone."""
    return FileIO(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600))


def has_writable_home() -> bool:
    """Whether programs have a place for what they keep between runs."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - `Path.home` raises where there is none
    return home.is_absolute() and os.access(home, os.W_OK)
