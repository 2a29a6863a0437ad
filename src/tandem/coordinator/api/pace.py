"""Requests wait their turn on the event loop, so that a burst holds up nothing under way."""

from __future__ import annotations

import asyncio

#: One alone would be fairest; a few cost fewer rounds.
_AT_ONCE = 4


class Pacer:
    """Admits a few newcomers a round of the loop: then tokens pass, and what was sealed is sent."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def wait_turn(self) -> None:
        """Returns when it is the caller's turn, which lasts until it waits for something."""
        await self._slots.acquire()
        asyncio.get_running_loop().call_soon(self._slots.release)
