"""TLS on the event loop, over a socket that a thread may take over afterwards.

What a connection is for is known only after its handshake, and asyncio's own TLS keeps its keys
where no blocking socket could go on with them. So this is TLS on a socket of one's own: one task
reads, any may write.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from tandem.link.frames import PREFIX_BYTES, HeaderDecoder, check_payload, decode_prefix
from tandem.runtime import Address

T = TypeVar("T")
M = TypeVar("M")


class TlsStream:
    """One TLS connection. Every method raises OSError when it breaks; deadlines are the caller's.

    `detach` gives the socket away; what is read before that is never more than was asked for.
    """

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, *, server: bool) -> None:
        """Takes over `plain`, which is connected."""
        plain.setblocking(False)
        try:
            self.connection = context.wrap_socket(
                plain, server_side=server, do_handshake_on_connect=False
            )
        except BaseException:
            plain.close()
            raise
        self._loop = asyncio.get_running_loop()
        self._descriptor = self.connection.fileno()
        self._may_read, self._may_write = asyncio.Event(), asyncio.Event()
        self._writing = asyncio.Lock()
        self._closed = False

    async def handshake(self) -> None:
        await self._until_done(self.connection.do_handshake)

    async def read_exactly(self, count: int) -> bytearray:
        """Raises EOFError when the peer closes first."""
        received = bytearray(count)
        view = memoryview(received)
        while view:
            got = await self._until_done(partial(self.connection.recv_into, view))
            if got == 0:
                raise EOFError("the peer closed the connection")
            view = view[got:]
        return received

    async def write(self, data: bytes) -> None:
        """Returns when the kernel has all of it."""
        view = memoryview(data)
        async with self._writing:  # pieces of two messages must not mix
            while view:
                view = view[await self._until_done(partial(self.connection.send, view)) :]

    def detach(self) -> ssl.SSLSocket:
        """The connection, for blocking use: the event loop knows it no more."""
        self._forget()
        return self.connection

    def close(self) -> None:
        """At once; whoever waits gets OSError."""
        self._closed = True
        self._forget()
        self.connection.close()
        self._may_read.set()
        self._may_write.set()

    async def finish(self) -> None:
        """Closes so that the peer has heard all that was written, whatever it still sends."""
        try:
            # The plain socket's: SSLSocket's own would take the TLS object away from the reader.
            socket.socket.shutdown(self.connection, socket.SHUT_WR)
            while await self._until_done(partial(self.connection.recv, 4096)):
                continue
        except OSError:
            return  # it is gone: nothing more can be heard
        finally:
            self.close()

    async def _until_done(self, operation: Callable[[], T]) -> T:
        while True:
            if self._closed:
                raise ConnectionAbortedError("it was closed at this end")
            try:
                return operation()
            except ssl.SSLWantReadError:
                self._may_read.clear()
                self._loop.add_reader(self._descriptor, self._on_readable)
                await self._may_read.wait()
            except ssl.SSLWantWriteError:
                self._may_write.clear()
                self._loop.add_writer(self._descriptor, self._on_writable)
                await self._may_write.wait()

    def _on_readable(self) -> None:
        self._loop.remove_reader(self._descriptor)
        self._may_read.set()

    def _on_writable(self) -> None:
        self._loop.remove_writer(self._descriptor)
        self._may_write.set()

    def _forget(self) -> None:
        if self.connection.fileno() >= 0:
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)


async def connect(address: Address) -> socket.socket:
    """The first of the host's addresses that answers. Raises OSError; the deadline is the caller's.

    A host may be a name, and an IPv6 address with its scope.
    """
    try:
        # uvloop's own resolver and its sock_connect lose the scope of an IPv6 address.
        found = await asyncio.to_thread(socket.getaddrinfo, *address, type=socket.SOCK_STREAM)
    except (UnicodeError, OverflowError) as error:
        raise OSError(f"this is no address: {error}") from error
    failure = OSError(f"{address[0]} has no address")
    for family, kind, protocol, _, name in found:
        try:
            return await _connect_to(socket.socket(family, kind, protocol), name)
        except OSError as error:
            failure = error
    raise failure


async def _connect_to(plain: socket.socket, name: tuple[Any, ...]) -> socket.socket:
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    plain.setblocking(False)
    try:
        with suppress(BlockingIOError):  # it is under way
            plain.connect(name)
        loop.add_writer(plain.fileno(), done.set)
        try:
            await done.wait()
        finally:
            loop.remove_writer(plain.fileno())
        _raise_problem(plain)
    except BaseException:
        plain.close()
        raise
    return plain


def _raise_problem(plain: socket.socket) -> None:
    """What has become of an attempt to connect."""
    problem = plain.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if problem:
        raise OSError(problem, os.strerror(problem))


async def read_message(stream: TlsStream, decoder: HeaderDecoder[M]) -> M:
    """The next message of a connection whose messages carry nothing after them.

    Raises OSError or EOFError, and ProtocolError for what is no message.
    """
    header_bytes, payload_bytes = decode_prefix(await stream.read_exactly(PREFIX_BYTES))
    message = decoder.decode(await stream.read_exactly(header_bytes))
    check_payload(message, payload_bytes)
    return message
