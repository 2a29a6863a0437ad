"""Addresses of sockets, IPv4 and IPv6: as people write them, as the kernel names them.

Ports too: the coordinator's usual one, and free ones for processes that are about to start.
A host that is valid on one link only carries its scope, `fe80::1%eth0`, wherever it goes.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

Address = tuple[str, int]

#: Where a coordinator listens unless it is told otherwise.
DEFAULT_PORT = 8000

_BACKLOG = 512
_MAX_PORT = 65535
#: Hosts that stand for every address of a machine.
WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104
#: Names that only a local network resolves (RFC 6761, 6762, 8375).
_LOCAL_NAMES = (".localhost", ".local", ".home.arpa", ".internal", ".lan")


def parse_address(text: str) -> Address:
    """Accepts `host:port`, `[v6]:port`, `[v6%scope]:port`, and `:port` for every address.

    Raises ValueError for anything else.
    """
    host, separator, port = text.rpartition(":")
    if not separator or not port.isascii() or not port.isdecimal() or int(port) > _MAX_PORT:
        raise ValueError("no port")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if bracketed != (":" in host) or set(host) & set("[] "):
        raise ValueError("an IPv6 address stands in brackets, and nothing else does")
    if bracketed:
        ipaddress.IPv6Address(host)
    return host, int(port)


def address_text(host: str, port: int) -> str:
    """What `parse_address` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def host_of(name: tuple[Any, ...]) -> str:
    """The host of a socket's own name or its peer's: with its scope, and IPv4 as IPv4."""
    host = str(name[0])
    if ":" not in host:
        return host
    address = ipaddress.IPv6Address(host)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    scope = name[3] if len(name) > 3 else 0
    return f"{host}%{scope}" if scope and "%" not in host else host


def is_link_local(host: str) -> bool:
    """Whether a host means nothing on another link."""
    try:
        return ipaddress.ip_address(host).is_link_local
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, whatever it is asked from."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_own_network(host: str) -> bool:
    """Whether a host is one of this network's: a proxy to the outside is not asked for it.

    Addresses that mean nothing outside (private, link-local, of an overlay such as Tailscale's),
    names without a dot, and names that only stand for such.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.lower().endswith(_LOCAL_NAMES)
    return not address.is_global


def listen_on(host: str, port: int) -> socket.socket:
    """A listening socket. An empty host or `::` stands for all addresses of both families.

    Raises OSError when the address is not this machine's, or the port is taken.
    """
    if host in {"", "::"}:
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        host = host or "0.0.0.0"  # noqa: S104
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, name = found[0]
    return socket.create_server(name, family=family, backlog=_BACKLOG)


def free_port(host: str = "") -> int:
    """A port that nobody listens on at this moment; without a host, on any address."""
    with listen_on(host, 0) as probe:
        port: int = probe.getsockname()[1]
    return port
