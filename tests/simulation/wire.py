"""What a provider and its coordinator say to each other, and what may happen to it on the way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, MutableMapping
from typing import Any

import msgspec

_CLOSED = {"type": "websocket.disconnect", "code": 1006}


class Faults(msgspec.Struct, frozen=True):
    """How often what goes wrong: probabilities for each message, and means in seconds."""

    drop: float = 0.0
    swap: float = 0.0
    corrupt: float = 0.0
    refuse: float = 0.0
    crash_every_s: float = 0.0
    hang_every_s: float = 0.0
    drain_every_s: float = 0.0
    until_s: float = 60.0
    #: How long a provider is away after each life; some moment when that is 0.
    restart_s: float = 0.0
    #: From the coordinator's side: then a message was lost, and a provider's life is over.
    silence_s: float = 20.0
    #: What a message takes at most, faults or not.
    delay_s: float = 0.02


class Wire:
    """Both directions of one connection; what is sent arrives later, in order unless swapped."""

    def __init__(self, draw: random.Random, faults: Faults, active: Callable[[], bool]) -> None:
        self._draw = draw
        self._faults = faults
        self._active = active
        self.to_coordinator: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.to_provider: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.broken = False
        self._due = {True: 0.0, False: 0.0}

    async def receive(self) -> dict[str, Any]:
        """ASGI's, for the coordinator."""
        return await self.to_coordinator.get()

    async def send(self, event: MutableMapping[str, Any]) -> None:
        """ASGI's, for the coordinator."""
        if event["type"] == "websocket.close":
            self.cut()
        elif event["type"] == "websocket.send":
            if self.broken:
                raise OSError("the connection is gone")
            self._later(event["bytes"], up=False)

    def up(self, frame: bytes) -> None:
        """The provider sends."""
        if not self.broken:
            self._later(frame, up=True)

    def cut(self) -> None:
        if not self.broken:
            self.broken = True
            self.to_coordinator.put_nowait(_CLOSED)
            self.to_provider.put_nowait(None)

    def _later(self, frame: bytes, *, up: bool) -> None:
        loop, chance = asyncio.get_running_loop(), self._draw.random
        if self._active():
            if chance() < self._faults.drop:
                return
            if _is_sealed(frame) and chance() < self._faults.corrupt:
                broken = bytearray(frame)
                broken[self._draw.randrange(len(frame))] ^= 1 << self._draw.randrange(8)
                frame = bytes(broken)
        due = max(self._due[up], loop.time()) + self._faults.delay_s * chance()
        if not (self._active() and chance() < self._faults.swap):
            self._due[up] = due
        loop.call_at(due, self._arrive, frame, up)

    def _arrive(self, frame: bytes, up: bool) -> None:
        if self.broken:
            return
        if up:
            self.to_coordinator.put_nowait({"type": "websocket.receive", "bytes": frame})
        else:
            self.to_provider.put_nowait(frame)


def _is_sealed(frame: bytes) -> bool:
    """TLS keeps the rest from being altered; what is sealed must not even depend on that."""
    return any(tag in frame[:16] for tag in (b"request", b"reply"))
