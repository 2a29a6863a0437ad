"""Ports for processes that are about to start."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A port that nobody listens on at this moment, on any address."""
    with socket.create_server(("", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port
