"""Where state lives when the operator names no place."""

from __future__ import annotations

import os
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
    """Makes the folder, closed to other users: it holds keys. Raises ConfigurationError."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"no data can be kept in {data_dir}: {error.strerror}; name a folder with --data-dir"
        ) from error


def has_writable_home() -> bool:
    """Whether programs have a place for what they keep between runs."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - `Path.home` raises where there is none
    return home.is_absolute() and os.access(home, os.W_OK)
