"""The coordinator's usual port, and ports for processes that are about to start."""

from __future__ import annotations

import socket

#: Where a coordinator listens unless it is told otherwise.
DEFAULT_PORT = 8000


def free_port() -> int:
    """A port that nobody listens on at this moment, on any address."""
    with socket.create_server(("", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
