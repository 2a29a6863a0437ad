"""Where state lives when the operator names no place."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def default_data_dir() -> Path:
    """The platform's per-user data folder, e.g. `~/.local/share/tandem` on Linux."""
    return platformdirs.user_data_path("tandem", appauthor=False)


def data_dir_or_default(data_dir: Path | None) -> Path:
    """What the operator names, `~` resolved, or else the platform's folder."""
    return (data_dir or default_data_dir()).expanduser().absolute()


def create_data_dir(data_dir: Path) -> None:
    """Makes the folder, closed to other users: it holds keys."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
