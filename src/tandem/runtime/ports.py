"""The coordinator's usual port, and ports for processes that are about to start."""

from __future__ import annotations

from tandem.runtime.addresses import listen_on

#: Where a coordinator listens unless it is told otherwise.
DEFAULT_PORT = 8000


def free_port(host: str = "") -> int:
    """A port that nobody listens on at this moment; without a host, on any address."""
    with listen_on(host, 0) as probe:
        port: int = probe.getsockname()[1]
    return port
