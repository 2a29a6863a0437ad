"""Cancellation: one that a task group has swallowed, and one that a thread cannot feel."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def raise_if_cancelled() -> None:
    """Raises CancelledError when the current task was asked to end and goes on nevertheless.

    Before Python 3.13 a TaskGroup that ends with errors of its own drops a cancellation that came
    at the same moment. Loops that start over after such an end call this first.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def in_thread(work: Callable[[], T]) -> T:
    """Like `asyncio.to_thread`, but a cancelled caller still waits for the thread to end."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
