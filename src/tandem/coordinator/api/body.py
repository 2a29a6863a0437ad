"""Reading a request's body within bounds, and noticing a consumer who leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NoReturn

from starlette.types import Receive, Scope

from tandem.coordinator.api.held import Held
from tandem.coordinator.api.http import header
from tandem.coordinator.api.pace import Pacer
from tandem.errors import RequestTooLarge, RequestTooSlow

#: A body that is refused is read to its end, and thrown away, up to this many times the limit: a
#: client that is still writing when the connection closes may never see the answer.
_DISCARD_FACTOR = 16
#: What follows comes as slowly as others' tokens need it to.
_SMALL_BODY = 64 * 1024


class ConsumerGone(Exception):
    """The consumer closed the connection, or reads nothing: there is nobody to answer."""


class IncomingBody:
    """A body on its way in: it is either read or, when its request is refused, discarded.

    Both together have `timeout_s`. Nothing of it is kept but by `read`.
    """

    def __init__(
        self, scope: Scope, receive: Receive, pacer: Pacer, *, max_bytes: int, timeout_s: float
    ) -> None:
        self._receive = receive
        self._pacer = pacer
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._deadline = asyncio.get_running_loop().time() + timeout_s
        self._announced = _content_length(scope)
        #: Whether the consumer waits to hear that the body is wanted before any of it is sent.
        self._unasked = header(scope, b"expect") is not None
        self._came = 0
        self._ended = False

    async def read(self, held: Held) -> bytearray:
        """All of it, which `held` holds as it comes.

        Raises RequestTooLarge, RateLimited and Overloaded, as early as they can be known;
        RequestTooSlow when it does not come in time, and ConsumerGone.
        """
        self._check_size(self._announced)
        held.check(self._announced)
        body = bytearray()
        try:
            async with asyncio.timeout_at(self._deadline):
                while not self._ended:
                    piece = await self._next()
                    self._check_size(self._came)
                    held.resize(self._came)
                    body += piece
        except BaseException as error:
            body.clear()  # the error's traceback would keep it
            if isinstance(error, TimeoutError):
                raise RequestTooSlow(
                    f"the body did not come within {self._timeout_s:g} s"
                ) from error
            raise
        return body

    async def discard(self) -> None:
        """Hears out whoever is refused, so that the reason is read and not a reset connection."""
        if self._unasked:
            return
        try:
            async with asyncio.timeout_at(self._deadline):
                while not self._ended and self._came <= self._max_bytes * _DISCARD_FACTOR:
                    await self._next()
        except (TimeoutError, ConsumerGone):
            return

    async def _next(self) -> bytes:
        if self._came > _SMALL_BODY:
            await self._pacer.wait_for_piece()
        event = await self._receive()
        if event["type"] == "http.disconnect":
            raise ConsumerGone("closed the connection")
        self._unasked = False
        piece: bytes = event.get("body", b"")
        self._came += len(piece)
        self._ended = not event.get("more_body")
        return piece

    def _check_size(self, size: int) -> None:
        if size > self._max_bytes:
            raise RequestTooLarge(
                f"the body is larger than {self._max_bytes} bytes, which is the limit"
            )


def _content_length(scope: Scope) -> int:
    """What the consumer says; 0 when it says nothing."""
    given = header(scope, b"content-length") or ""
    return int(given) if given.isdecimal() and len(given) < 20 else 0


async def while_connected(
    receive: Receive, work: Callable[[], Awaitable[None]], *beside: Coroutine[Any, Any, NoReturn]
) -> None:
    """Runs `work` until it ends or the consumer leaves, which cancels it.

    What runs `beside` is cancelled with it, and cancels it when it fails. Call this once the body
    has been read: the next event is then the disconnect.
    """

    async def watch() -> NoReturn:
        while (await receive())["type"] != "http.disconnect":
            pass
        raise ConsumerGone("closed the connection")

    try:
        async with asyncio.TaskGroup() as tasks:
            watchers = [tasks.create_task(watcher) for watcher in (watch(), *beside)]
            await work()
            for watcher in watchers:
                watcher.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
