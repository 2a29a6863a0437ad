"""Requests wait their turn on the event loop, so that a burst holds up nothing under way.

So do the pieces of large bodies, and what is done on a thread, which shares the interpreter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple
from weakref import WeakValueDictionary

from tandem.errors import Overloaded

A = TypeVarTuple("A")
T = TypeVar("T")

#: One alone would be fairest; a few cost fewer rounds.
_AT_ONCE = 4
#: A piece is what a connection holds when nobody takes it, at most a few hundred kilobytes.
_PIECES_AT_ONCE = 2
#: What is done aside has a quarter of the time: so much rest follows.
_REST = 3.0
#: For a turn to do something aside.
_PATIENCE_S = 30.0


class Pacer:
    """Admits a few newcomers a round of the loop: then tokens pass, and what was sealed is sent."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._pieces = asyncio.Semaphore(_PIECES_AT_ONCE)
        self._aside = asyncio.Lock()
        #: Of each consumer who waits for it: all of theirs are one.
        self._aside_of: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def wait_turn(self) -> None:
        """Returns when it is the caller's turn, which lasts until it waits for something."""
        await _turn(self._slots)

    async def wait_for_piece(self) -> None:
        """Returns when one more piece of a large body may be read."""
        await _turn(self._pieces)

    async def aside(self, consumer: str, work: Callable[[*A], T], *args: *A) -> T:
        """Does what takes long on a thread, one at a time, and seldom: tokens pass meanwhile.

        Consumers take turns. Raises Overloaded when the turn does not come.
        """
        turn = self._aside_of.setdefault(consumer, asyncio.Lock())
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await turn.acquire()
                try:
                    await self._aside.acquire()
                finally:
                    turn.release()
        except TimeoutError:
            raise Overloaded("too many large requests are waiting to be read") from None
        return await self._on_thread(work, *args)

    async def _on_thread(self, work: Callable[[*A], T], *args: *A) -> T:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            return await asyncio.to_thread(work, *args)
        finally:
            loop.call_later(_REST * (loop.time() - began), self._aside.release)


async def _turn(slots: asyncio.Semaphore) -> None:
    """One of those that every round of the loop has."""
    await slots.acquire()
    asyncio.get_running_loop().call_soon(slots.release)
