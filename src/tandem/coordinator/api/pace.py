"""Requests wait their turn on the event loop, so that a burst holds up nothing under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

A = TypeVarTuple("A")
T = TypeVar("T")

#: One alone would be fairest; a few cost fewer rounds.
_AT_ONCE = 4


class Pacer:
    """Admits a few newcomers a round of the loop: then tokens pass, and what was sealed is sent."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._aside = asyncio.Lock()

    async def wait_turn(self) -> None:
        """Returns when it is the caller's turn, which lasts until it waits for something."""
        await self._slots.acquire()
        asyncio.get_running_loop().call_soon(self._slots.release)

    async def aside(self, work: Callable[[*A], T], *args: *A) -> T:
        """Does what takes long on a thread, one at a time: tokens pass between its steps."""
        async with self._aside:
            return await asyncio.to_thread(work, *args)
