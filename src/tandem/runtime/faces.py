"""Faces of packages: a name that brings something heavy with it is imported when it is asked for.

So a package offers all its names in its `__init__`, and `tandem --help` loads no web server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def on_demand(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """What `__getattr__` of the package is to be: `names` are those of its modules, by module."""
    homes = {name: module for module, held in names.items() for name in held}

    def find(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{homes[name]}"), name)

    return find
