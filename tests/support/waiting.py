"""Waiting for what must come, but not at once."""

from __future__ import annotations

import time
from collections.abc import Callable

#: For hangs only: a busy machine may take many times as long as a calm one.
DEADLINE_S = 240.0
#: Short beside what is waited for, and long enough to leave the cores to it.
_PAUSE_S = 0.05


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(_PAUSE_S)
