"""Cancellation that a task group has swallowed."""

from __future__ import annotations

import asyncio


def raise_if_cancelled() -> None:
    """Raises CancelledError when the current task was asked to end and goes on nevertheless.

    Before Python 3.13 a TaskGroup that ends with errors of its own drops a cancellation that came
    at the same moment. Loops that start over after such an end call this first.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
