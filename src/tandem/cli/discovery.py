"""Commands by their place: a module of a package is the command of its name.

The module has a function of that name, or a group (`typer.Typer`) of several commands.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

import typer

from tandem.cli.option_groups import grouped


def add_commands(group: typer.Typer, package: ModuleType) -> None:
    """Adds what the modules of `package` define, in the order of their names."""
    for module in iter_modules(package.__path__):
        command = getattr(import_module(f"{package.__name__}.{module.name}"), module.name)
        if isinstance(command, typer.Typer):
            group.add_typer(command, name=module.name)
        else:
            group.command(name=module.name)(grouped(command))
