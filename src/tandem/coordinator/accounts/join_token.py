"""The deployment's own join token: a file in the data folder that only its owner reads.

It lets in machines that run beside the coordinator, as those of `tandem up` do.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from tandem.errors import ConfigurationError
from tandem.security import new_join_token

_FILE = "join-token"


def load_or_create_join_token(data_dir: Path) -> str:
    """The folder's join token, made on first use in a file that only its owner can read.

    Raises ConfigurationError when the file is there but empty.
    """
    path = data_dir / _FILE
    draft = data_dir / f".{_FILE}.{secrets.token_hex(4)}"
    if not path.exists():
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(new_join_token() + "\n")
        try:
            os.link(draft, path)  # complete from the moment it exists, and never replaced
        except FileExistsError:
            pass  # another process was first: its token counts
        finally:
            draft.unlink()
    token = path.read_text().strip()
    if not token:
        raise ConfigurationError(f"{path} is empty: remove it, and a new join token is made")
    return token
