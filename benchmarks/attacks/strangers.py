"""What somebody does who reaches the port and has no key. Each goes on until it is cancelled."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from functools import partial

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from benchmarks.attacks.target import Target

_CONNECTIONS = 2000
_BODIES = 150
_BODY_BYTES = 8 * 1024 * 1024
_PIECE = b"a" * 65536
#: An empty map each, in MessagePack.
_MAPS = 16 * 1024 * 1024 - 400
_REST_S = 0.01


async def idle_connections(target: Target) -> None:
    """Two thousand connections that send nothing, or half a header, and come back when closed."""
    await _many(_CONNECTIONS, lambda number: _idle(target, half=number % 2 == 1))


async def endless_header(target: Target) -> None:
    """One header of as many bytes as are taken."""
    await _for_ever(
        lambda: _sent(target, b"GET /healthz HTTP/1.1\r\nX-A: ", itertools.repeat(_PIECE))
    )


async def many_headers(target: Target) -> None:
    """As many headers as are taken."""
    lines = b"a:b\r\n" * 10_000
    await _for_ever(lambda: _sent(target, b"GET /healthz HTTP/1.1\r\n", itertools.repeat(lines)))


async def bodies_without_a_key(target: Target) -> None:
    """A hundred and fifty bodies of 8 MiB, whose last byte is held back."""
    head = target.head(_BODY_BYTES).replace(target.key.encode(), b"sk-tandem-none")
    pieces = [_PIECE] * (_BODY_BYTES // len(_PIECE) - 1)
    await _many(_BODIES, lambda _: _sent(target, head, pieces, hold=True))


async def frames_of_a_stranger(target: Target) -> None:
    """WebSocket frames of 16 MB of empty maps, before any join token."""
    beat = {"type": "heartbeat", "ready": True, "running": 0, "waiting": 0}
    frame = msgspec.msgpack.encode(
        beat | {"free_blocks": 0, "total_blocks": 0, "cluster_role": None}
    )
    at = frame.rindex(b"\xc0")
    frame = frame[:at] + b"\xdd" + _MAPS.to_bytes(4, "big") + b"\x80" * _MAPS

    async def once() -> None:
        address = f"ws://{target.host}:{target.port}/v1/providers/connect"
        with suppress(OSError, WebSocketException):
            async with connect(address, compression=None, max_size=None) as socket:
                await socket.send(frame)
                await socket.recv()

    await _for_ever(once)


async def garbage(target: Target) -> None:
    """Connections that speak no HTTP, one after the other."""
    await _for_ever(lambda: _sent(target, b"\x16\x03\x01\x02\0\r\n\r\n", [_PIECE]))


async def _idle(target: Target, *, half: bool) -> None:
    start = b"POST /v1/chat/completions HTTP/1.1\r\nX-A: " if half else b""
    await _sent(target, start, [], hold=True)


async def _sent(
    target: Target, start: bytes, pieces: Iterable[bytes], *, hold: bool = False
) -> None:
    """One connection: sends until nothing more is taken; then, with `hold`, waits for its end."""
    try:
        reader, writer = await target.dial()
    except OSError:
        return
    try:
        writer.write(start)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if reader.at_eof():
                return
        if hold:
            await reader.read()
    except OSError:
        return
    finally:
        writer.close()


async def _for_ever(attack: Callable[[], Coroutine[None, None, None]]) -> None:
    while True:
        await attack()
        await asyncio.sleep(_REST_S)


async def _many(count: int, attack: Callable[[int], Coroutine[None, None, None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(_for_ever(partial(attack, number)))
