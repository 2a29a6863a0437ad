"""Writing one answer to its consumer: silence is filled, and whoever does not read is given up.

Two tasks write: the answer's own, and `watch` beside it. A piece costs a lock and two clock reads.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

from starlette.types import Send

from tandem.coordinator.api.body import ConsumerGone
from tandem.coordinator.api.http import KEEP_ALIVE, SSE_HEADERS, Headers
from tandem.coordinator.server.peer import Peer

#: A larger answer is given to the connection in slices, each when there is room for it.
_SLICE_BYTES = 64 * 1024
#: How often it is looked whether a consumer reads, in the time that it has to do so.
_LOOKS = 8


class AnswerWriter:
    """`keep_alive_s` without a byte make a comment in a stream.

    A consumer who takes nothing for `stalls_after_s` while there is something to write is given up.
    """

    def __init__(
        self, send: Send, peer: Peer, *, keep_alive_s: float, stalls_after_s: float
    ) -> None:
        self._send = send
        self._peer = peer
        self._keep_alive_s = keep_alive_s
        self._stalls_after_s = stalls_after_s
        self._clock = asyncio.get_running_loop().time
        self._lock = asyncio.Lock()
        #: Whether the status has gone out: an error is the answer's own to say from then on.
        self.started = False
        self._streams = False
        self._ended = False
        self._writing = False
        #: When something was last written, or taken by the consumer.
        self._moved = self._clock()
        self._unsent = 0

    def stream(self) -> None:
        """The answer will be an event stream: from now on silence is filled."""
        self._streams = True

    async def whole(self, headers: Headers, body: bytes) -> None:
        """An answer at once."""
        async with self._lock:
            await self._start(headers)
            await self._write(body, last=True)

    async def open(self) -> None:
        """The header of a stream, unless it has gone out."""
        async with self._lock:
            await self._start(SSE_HEADERS)

    async def write(self, events: bytes, *, last: bool = False) -> None:
        """A piece of a stream."""
        async with self._lock:
            await self._start(SSE_HEADERS)
            await self._write(events, last=last)

    async def watch(self) -> NoReturn:
        """Runs beside the writing, until it is cancelled. Raises ConsumerGone."""
        while True:
            due_in_s = await self._look()
            await asyncio.sleep(due_in_s)

    async def _look(self) -> float:
        """Does what is due; how long until something may be due again."""
        if self._writing:
            return self._look_at_reader()
        if not self._streams:
            return self._keep_alive_s
        silent_s = self._clock() - self._moved
        if silent_s < self._keep_alive_s:
            return self._keep_alive_s - silent_s
        await self._comment()
        return self._keep_alive_s

    def _look_at_reader(self) -> float:
        now, unsent = self._clock(), self._peer.unsent_bytes
        if unsent != self._unsent:
            self._unsent, self._moved = unsent, now
        if now - self._moved >= self._stalls_after_s:
            self._give_up()
        return self._stalls_after_s / _LOOKS

    async def _comment(self) -> None:
        try:
            async with asyncio.timeout(self._stalls_after_s), self._lock:
                await self._start(SSE_HEADERS)
                if not self._ended:
                    await self._write(KEEP_ALIVE, last=False)
        except TimeoutError:
            self._give_up()

    def _give_up(self) -> NoReturn:
        self._peer.abort()
        raise ConsumerGone(f"took nothing for {self._stalls_after_s:g} s")

    async def _start(self, headers: Headers) -> None:
        if not self.started:
            self.started = True
            await self._give({"type": "http.response.start", "status": 200, "headers": headers})

    async def _write(self, body: bytes, *, last: bool) -> None:
        self._ended = last
        for at in range(0, max(1, len(body)), _SLICE_BYTES):
            end = at + _SLICE_BYTES
            more = not last or end < len(body)
            piece = body if len(body) <= _SLICE_BYTES else body[at:end]
            await self._give({"type": "http.response.body", "body": piece, "more_body": more})

    async def _give(self, message: dict[str, object]) -> None:
        self._writing, self._moved = True, self._clock()
        try:
            await self._send(message)
        finally:
            self._writing, self._moved = False, self._clock()
