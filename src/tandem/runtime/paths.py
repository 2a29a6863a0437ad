"""Where state lives when the operator names no place."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def default_data_dir() -> Path:
    """The platform's per-user data folder, e.g. `~/.local/share/tandem` on Linux."""
    return platformdirs.user_data_path("tandem", appauthor=False)
