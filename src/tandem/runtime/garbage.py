"""Python's search for garbage, kept away from what stays.

A full search looks at every object, and nobody is answered meanwhile: 50 ms among PyTorch's
modules, half a second among thousands of connections. Frozen objects are passed over. They are
freed as usual when nothing refers to them any more; only rings of them are not.
"""

from __future__ import annotations

import gc

_GROWTH, _AT_LEAST = 1.25, 100


def freeze_modules() -> None:
    """To be called once everything is imported."""
    gc.collect()
    gc.freeze()


class Herd:
    """Things of many objects each that mostly stay, like connections."""

    def __init__(self) -> None:
        self._frozen_at = 0

    def grown_to(self, count: int) -> None:
        """Freezes them at a new record only: what rings could leave behind stays bounded."""
        if count >= _GROWTH * self._frozen_at + _AT_LEAST:
            self._frozen_at = count
            gc.freeze()
