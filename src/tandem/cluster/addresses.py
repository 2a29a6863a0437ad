"""Under which addresses other machines reach a node that listens on all of its own."""

from __future__ import annotations

import ipaddress
import socket

import psutil

from tandem.runtime import WILDCARDS, is_link_local

_IPV4_ONLY = "0.0.0.0"  # noqa: S104 - compared, not listened on
#: As many as a coordinator takes of one machine.
_MAX_HOSTS = 16


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
