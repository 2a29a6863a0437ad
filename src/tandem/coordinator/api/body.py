"""Reading a request's body within bounds, and noticing a consumer who leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from starlette.types import Receive

from tandem.errors import InvalidRequest, RequestTooLarge

log = structlog.get_logger(__name__)

#: A body over the limit is read to its end, and thrown away, up to this many times the limit: a
#: client that is still writing when the connection closes may never see the answer.
_DISCARD_FACTOR = 16


class ConsumerGone(Exception):
    """The consumer closed the connection: there is nobody to answer."""


async def read_body(receive: Receive, *, max_bytes: int, timeout_s: float) -> bytearray:
    """Raises RequestTooLarge, InvalidRequest when it does not come in time, or ConsumerGone."""
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise ConsumerGone
                piece = event.get("body", b"")
                size += len(piece)
                if size <= max_bytes:
                    body += piece
                if not event.get("more_body") or size > max_bytes * _DISCARD_FACTOR:
                    break
    except TimeoutError as error:
        raise InvalidRequest(f"the body did not come within {timeout_s:g} s") from error
    if size > max_bytes:
        raise RequestTooLarge(f"the body is larger than {max_bytes} bytes, which is the limit")
    return body


async def while_connected(receive: Receive, work: Callable[[], Awaitable[None]]) -> None:
    """Runs `work` until it ends or the consumer leaves, which cancels it.

    Call it once the body has been read: the next event is then the disconnect.
    """

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        raise ConsumerGone

    try:
        async with asyncio.TaskGroup() as tasks:
            watcher = tasks.create_task(watch())
            await work()
            watcher.cancel()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from group
