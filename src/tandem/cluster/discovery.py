"""How nodes are found: by mDNS on a local network (RFC 6762, 6763), and under which addresses.

A node that listens announces `_tandem._tcp.local.` with its id; every node looks for them. What
is found is only an address to dial: who answers there is settled by the link's handshake.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Never

import psutil
import structlog
import zeroconf as mdns
from zeroconf import IPVersion, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from tandem.runtime import WILDCARDS, Address, Backoff, is_link_local
from tandem.security import NodeId

log = structlog.get_logger(__name__)

SERVICE = "_tandem._tcp.local."
_ID = b"id"
_RESOLVE_TIMEOUT_MS = 3000
_IPV4_ONLY = "0.0.0.0"  # noqa: S104 - compared, not listened on
#: As many as a coordinator takes of one machine.
_MAX_HOSTS = 16


class ClusterDiscovery:
    """Announces one node, and reports the addresses of those that it is paired with."""

    def __init__(
        self,
        own: NodeId,
        is_paired: Callable[[NodeId], bool],
        interfaces: list[str],
        on_found: Callable[[Address], None],
    ) -> None:
        """`interfaces` are the addresses of the network interfaces to use."""
        self._own = own
        self._is_paired = is_paired
        self._interfaces = interfaces
        self._on_found = on_found
        self._found: asyncio.Queue[str] = asyncio.Queue(256)

    async def run(self, port: int | None) -> Never:
        """Until cancelled. Announces `port`, unless it is None.

        What fails, as without a network, is tried again: other ways to find nodes go on.
        """
        backoff = Backoff(base_s=1.0, cap_s=60.0)
        while True:
            try:
                await self._look(port)
            except (OSError, mdns.Error) as error:
                log.warning("discovery_failed", reason=str(error) or type(error).__name__)
            await asyncio.sleep(backoff.next_delay_s())

    async def _look(self, port: int | None) -> None:
        zeroconf = AsyncZeroconf(
            interfaces=self._interfaces, ip_version=_version_of(self._interfaces)
        )
        browser = AsyncServiceBrowser(zeroconf.zeroconf, SERVICE, handlers=[self._on_change])
        try:
            if port is not None:
                # The name is this node's own: whoever else has it must not keep it out.
                await zeroconf.async_register_service(
                    self._announcement(port), cooperating_responders=True
                )
            while True:
                await self._resolve(zeroconf.zeroconf, await self._found.get())
        finally:
            await browser.async_cancel()
            await zeroconf.async_close()

    def _announcement(self, port: int) -> AsyncServiceInfo:
        return AsyncServiceInfo(
            SERVICE,
            f"{self._own[:16]}.{SERVICE}",
            addresses=[ipaddress.ip_address(address).packed for address in self._interfaces],
            port=port,
            properties={_ID: self._own.encode()},
            server=f"{self._own[:16]}.local.",
        )

    def _on_change(
        self,
        zeroconf: Zeroconf,  # noqa: ARG002 - the library's signature
        service_type: str,  # noqa: ARG002
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        if state_change is not ServiceStateChange.Removed and not self._found.full():
            self._found.put_nowait(name)

    async def _resolve(self, zeroconf: Zeroconf, name: str) -> None:
        info = AsyncServiceInfo(SERVICE, name)
        if not await info.async_request(zeroconf, _RESOLVE_TIMEOUT_MS) or info.port is None:
            return
        node_id = NodeId((info.properties.get(_ID) or b"").decode("ascii", "replace"))
        if node_id == self._own or not self._is_paired(node_id):
            return
        for address in info.parsed_scoped_addresses(_version_of(self._interfaces)):
            log.info("node_found", node_id=node_id[:16], address=address, port=info.port)
            self._on_found((address, info.port))


def _version_of(interfaces: list[str]) -> IPVersion:
    """That of what is announced and looked for: what the interfaces speak."""
    versions = {ipaddress.ip_address(address).version for address in interfaces}
    only = {frozenset({4}): IPVersion.V4Only, frozenset({6}): IPVersion.V6Only}
    return only.get(frozenset(versions), IPVersion.All)


def hosts_behind(host: str) -> list[str]:
    """The host itself, or the machine's own addresses for one that stands for all of them.

    Best first. Those that mean nothing elsewhere are only named when there are no others.
    """
    if host not in WILDCARDS:
        return [host]
    own = _own_hosts({socket.AF_INET} if host == _IPV4_ONLY else {socket.AF_INET, socket.AF_INET6})
    for is_local in (_is_loopback, is_link_local):
        own = [each for each in own if not is_local(each)] or own
    return own[:_MAX_HOSTS]


def _own_hosts(families: set[socket.AddressFamily]) -> list[str]:
    """Of the interfaces that are up."""
    states = psutil.net_if_stats()
    return [
        address.address
        for interface, addresses in psutil.net_if_addrs().items()
        if interface in states and states[interface].isup
        for address in addresses
        if address.family in families
    ]


def _is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback
