"""Requests wait their turn on the event loop, so that a burst holds up nothing under way.

So do the pieces of large bodies, and what is done on a thread, which shares the interpreter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

A = TypeVarTuple("A")
T = TypeVar("T")

#: One alone would be fairest; a few cost fewer rounds.
_AT_ONCE = 4
#: A piece is what a connection holds when nobody takes it, at most a few hundred kilobytes.
_PIECES_AT_ONCE = 2
#: What is done aside has a quarter of the time: so much rest follows.
_REST = 3.0


class Pacer:
    """Admits a few newcomers a round of the loop: then tokens pass, and what was sealed is sent."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._pieces = asyncio.Semaphore(_PIECES_AT_ONCE)
        self._aside = asyncio.Lock()

    async def wait_turn(self) -> None:
        """Returns when it is the caller's turn, which lasts until it waits for something."""
        await _turn(self._slots)

    async def wait_for_piece(self) -> None:
        """Returns when one more piece of a large body may be read."""
        await _turn(self._pieces)

    async def aside(self, work: Callable[[*A], T], *args: *A) -> T:
        """Does what takes long on a thread, one at a time, and seldom: tokens pass meanwhile."""
        loop = asyncio.get_running_loop()
        await self._aside.acquire()
        began = loop.time()
        try:
            return await asyncio.to_thread(work, *args)
        finally:
            loop.call_later(_REST * (loop.time() - began), self._aside.release)


async def _turn(slots: asyncio.Semaphore) -> None:
    """One of those that every round of the loop has."""
    await slots.acquire()
    asyncio.get_running_loop().call_soon(slots.release)
