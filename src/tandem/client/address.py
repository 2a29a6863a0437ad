"""Addresses as people write them, and ports to listen on."""

from __future__ import annotations

import errno
import os
import socket
from urllib.parse import urlsplit

from tandem.errors import ConfigurationError
from tandem.runtime import DEFAULT_PORT, address_text, is_loopback, is_own_network

API_PATH = "/v1"
#: Addresses to listen on that are no addresses to connect to.
_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
#: Before a pin, in an address.
_PIN = "#pin="
_WEBSOCKET_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}


def is_readable_on_the_way(url: str) -> bool:
    """Whether what is said there crosses a network without encryption."""
    parts = urlsplit(url)
    return parts.scheme in {"http", "ws"} and not is_loopback(parts.hostname or "")


def http_url(host: str, port: int, *, tls: bool = False) -> str:
    """The address to show for a socket address; an IPv6 host goes into brackets."""
    return f"{'https' if tls else 'http'}://{address_text(host, port)}"


def local_host(host: str) -> str:
    """Where a process on this machine reaches a service that listens on `host`."""
    return _WILDCARDS.get(host, host)


def is_beside_us(url: str) -> bool:
    """Whether a service is on a machine of this network: no proxy stands in between."""
    return is_own_network(urlsplit(url).hostname or "")


def with_pin(url: str, pin: str | None) -> str:
    """An address that says by which key the service is known, as `split_pin` reads it."""
    return url if pin is None else f"{url}{_PIN}{pin}"


def split_pin(address: str) -> tuple[str, str | None]:
    """The address without its pin, and the pin. Raises ConfigurationError for a damaged one."""
    from tandem.security import is_pin

    url, sign, pin = address.strip().partition(_PIN)
    if sign and not is_pin(pin):
        raise ConfigurationError(f"{address!r} is not whole: after {_PIN} come 64 digits")
    return url, pin or None


def api_base_url(address: str, *, tls: bool = False) -> str:
    """Accepts `host:port`, with or without scheme, with or without `/v1`.

    `tls` for who knows that it is spoken there, whatever was pasted: no key goes out in the clear.
    """
    url = address.strip()
    url = (url if "://" in url else f"http://{url}").rstrip("/")
    scheme, _, rest = url.partition("://")
    url = f"https://{rest}" if tls and scheme.lower() == "http" else url
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for a port that is no number
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigurationError(
            f"{address!r} is no address of a service: use one like http://127.0.0.1:8000/v1"
        )
    return url if parts.path else url + API_PATH


def websocket_url(address: str, *, tls: bool = False) -> str:
    """Accepts what people paste: `http(s)://`, `ws(s)://`, or a bare `host:port`.

    `tls` for who knows that it is spoken there, whatever was pasted.
    """
    scheme, separator, rest = address.strip().partition("://")
    if not separator:
        scheme, rest = "ws", scheme
    if tls and scheme.lower() in _WEBSOCKET_SCHEMES:
        scheme = "wss"
    rest = rest.rstrip("/")
    if scheme.lower() not in _WEBSOCKET_SCHEMES or not rest:
        raise ConfigurationError(
            f"{address!r} is no address of a coordinator: use one like ws://192.168.1.10:8000"
        )
    return f"{_WEBSOCKET_SCHEMES[scheme.lower()]}://{rest}"


def choose_port(host: str, requested: int | None) -> int:
    """The port to listen on; 0 lets the coordinator take a free one.

    A port that was asked for and is busy raises ConfigurationError; the default one gives way.
    The coordinator binds a moment later, so this only makes the message good: a port that is
    taken in between is still reported, by the coordinator.
    """
    port = DEFAULT_PORT if requested is None else requested
    problem = _bind_problem(host, port)
    if problem is None:
        return port
    if problem == errno.EADDRINUSE and requested is None:
        return 0
    raise cannot_listen(host, port, problem)


def cannot_listen(host: str, port: int, problem: int) -> ConfigurationError:
    """What to tell the operator when binding failed with this `errno`."""
    if problem == errno.EADDRINUSE:
        return ConfigurationError(
            f"port {port} on {host} is in use: choose another with --port, or any free one"
            " with --port 0"
        )
    return ConfigurationError(
        f"cannot listen on {host} port {port} ({os.strerror(problem)}): check --host and --port"
    )


def _bind_problem(host: str, port: int) -> int | None:
    try:
        address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise ConfigurationError(f"--host {host!r} is no address ({error.strerror})") from error
    family, kind, protocol, _, name = address
    with socket.socket(family, kind, protocol) as probe:
        # As the server will: a port whose last connections linger in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(name)
        except OSError as error:
            return error.errno
    return None
