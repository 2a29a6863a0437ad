"""Computing yields to talking: a machine that is busy with a model still answers at once."""

from __future__ import annotations

import os
import sys
import threading

_NICENESS = 10


def yield_to_others() -> None:
    """Lowers the calling thread's priority, and that of the threads that PyTorch starts from it.

    Linux only: elsewhere a thread has no niceness of its own.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        lowered = max(os.getpriority(os.PRIO_PROCESS, thread), _NICENESS)
        os.setpriority(os.PRIO_PROCESS, thread, lowered)
