"""What computes: a backend is a folder here, and a row of the table below.

Rows are functions, so that a library is imported by whoever uses it and by nobody else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tandem.engine.backends.backend import Backend, DeviceFacts, ModelSetup
from tandem.errors import ConfigurationError

__all__ = ["BACKENDS", "Backend", "DeviceFacts", "ModelSetup", "find_backend"]


def _pytorch() -> Backend[Any]:
    from tandem.engine.backends.pytorch.backend import TorchBackend

    return TorchBackend()


BACKENDS: dict[str, Callable[[], Backend[Any]]] = {"pytorch": _pytorch}


def find_backend(name: str) -> Backend[Any]:
    """Imports the backend's library. Raises ConfigurationError for a name that isn't there."""
    if name not in BACKENDS:
        raise ConfigurationError(f"backend is {name!r}; expected one of {list(BACKENDS)}")
    return BACKENDS[name]()
