"""The one port of a node, for control and data alike, and whoever else comes there.

Handshakes are shaken side by side, each within a deadline, so many at once as `handshakes` allows;
what a connection is for stands in its ALPN. Nobody who is not paired gets further, holds anybody
up, or is read from.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from typing import Never

from tandem.errors import ConfigurationError, TandemError
from tandem.link.channel import Channel
from tandem.link.control import ControlLink, check_node
from tandem.link.data import Arrivals
from tandem.link.frames import HeaderDecoder
from tandem.link.handshakes import Handshakes
from tandem.link.refusals import Refusals
from tandem.link.stream import TlsStream, read_message
from tandem.link.tls import HANDSHAKE_TIMEOUT_S, LinkCredentials, reason_of, tune
from tandem.protocol.cluster import DataHello
from tandem.runtime import Address, address_text, host_of, listen_on
from tandem.security import NodeId

_decoder: HeaderDecoder[DataHello] = HeaderDecoder(DataHello)
#: Without descriptors nothing can be accepted; they come back when other connections end.
_EXHAUSTED_PAUSE_S = 0.5

_Ticket = tuple[str, "asyncio.Task[bool]"]


class LinkListener:
    """Listens from its construction on, accepts while `run` runs."""

    def __init__(self, credentials: LinkCredentials, address: Address) -> None:
        """Raises ConfigurationError when the address cannot be listened on."""
        self._credentials = credentials
        try:
            self._socket = listen_on(*address)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {address_text(*address)}: {error.strerror or error}"
            ) from error
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self.refusals = Refusals()
        self._handshakes: Handshakes[_Ticket] = Handshakes()
        self._arrivals = Arrivals(lambda peer, why: self.refusals.add(f"node {peer[:16]}", why))

    async def run(self, on_control: Callable[[ControlLink], None]) -> Never:
        """Until cancelled; then the port is free. `on_control` gets each paired node's link."""
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    plain, host = await self._accept()
                    self._begin(tasks, plain, host, on_control)
        finally:
            self.close()

    async def claim(
        self, session_id: str, expected: dict[int, NodeId], *, deadline_s: float, timeout_s: float
    ) -> dict[int, Channel]:
        """A channel from each rank of `expected`, within `deadline_s`. Raises LinkLost."""
        return await self._arrivals.claim(
            session_id, expected, deadline_s=deadline_s, timeout_s=timeout_s
        )

    def close(self) -> None:
        self._socket.close()
        self._arrivals.close()

    async def _accept(self) -> tuple[socket.socket, str]:
        while True:
            try:
                plain, name = await asyncio.get_running_loop().sock_accept(self._socket)
            except ConnectionError:
                continue  # it was gone before it was accepted
            except OSError as error:
                self.refusals.add("everybody", f"cannot accept: {error}")
                await asyncio.sleep(_EXHAUSTED_PAUSE_S)
            else:
                return plain, host_of(name)

    def _begin(
        self,
        tasks: asyncio.TaskGroup,
        plain: socket.socket,
        host: str,
        on_control: Callable[[ControlLink], None],
    ) -> None:
        try:
            tune(plain)
            stream = TlsStream(plain, self._credentials.server_context, server=True)
        except OSError as error:
            plain.close()
            self.refusals.add(host, f"it was gone at once: {reason_of(error)}")
            return
        ticket = (host, tasks.create_task(self._attend(stream, host, on_control)))
        ticket[1].add_done_callback(partial(self._ended, ticket, stream))
        oldest = self._handshakes.enter(host, ticket)
        if oldest is not None:
            self.refusals.add(oldest[0], "too many handshakes at once: the oldest gave way")
            oldest[1].cancel()

    def _ended(self, ticket: _Ticket, stream: TlsStream, task: asyncio.Task[bool]) -> None:
        self._handshakes.leave(ticket[0], ticket)
        if task.cancelled() or task.exception() is not None or not task.result():
            stream.close()

    async def _attend(
        self, stream: TlsStream, host: str, on_control: Callable[[ControlLink], None]
    ) -> bool:
        """Whether somebody has the connection when this returns; if not, it is to be closed."""
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await stream.handshake()
                peer = await check_node(self._credentials, stream)
                if self._credentials.is_for_data(stream.connection):
                    hello = await read_message(stream, _decoder)
                    self._arrivals.put(peer, hello, stream.detach())
                else:
                    on_control(ControlLink(stream, peer, dialled=False))
        except TimeoutError:
            self.refusals.add(host, f"no handshake within {HANDSHAKE_TIMEOUT_S:g} s")
        except OSError as error:
            self.refusals.add(host, f"the TLS handshake failed: {reason_of(error)}")
        except EOFError:
            self.refusals.add(host, "it closed the connection")
        except TandemError as error:
            self.refusals.add(host, error.message)
        else:
            return True
        return False
