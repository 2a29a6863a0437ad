"""Names that must be unique, and need not be secret: a lookup of the system's chance costs more."""

from __future__ import annotations

import random
import secrets

_chance = random.Random(secrets.randbits(128))  # noqa: S311 - ids guard nothing


def new_id() -> str:
    """96 bits, as 24 hexadecimal digits."""
    return f"{_chance.getrandbits(96):024x}"
