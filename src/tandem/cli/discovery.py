"""Commands by their place: a module of a package is the command of its name.

The module has a function of that name, or a group (`typer.Typer`) of several commands. Its constant
`SECTION` says where `--help` lists it. So a command is one file, and no list names it.
"""

from __future__ import annotations

from enum import StrEnum
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import typer
from typer.core import TyperGroup

from tandem.cli.option_groups import grouped


class Section(StrEnum):
    """Parts of the list of commands, in their order."""

    SERVE = "Serve a model"
    USE = "Use a service"
    MANAGE = "Manage a service"
    CLUSTER = "Join machines"
    LOOK = "Look and measure"
    OTHER = "Commands"


def add_commands(group: typer.Typer, package: ModuleType) -> None:
    """Adds what the modules of `package` define, in the order of their names."""
    for found in iter_modules(package.__path__):
        module = import_module(f"{package.__name__}.{found.name}")
        command = getattr(module, found.name)
        section = getattr(module, "SECTION", Section.OTHER)
        if isinstance(command, typer.Typer):
            group.add_typer(command, name=found.name, rich_help_panel=section)
        else:
            group.command(name=found.name, rich_help_panel=section)(grouped(command))


class SectionedGroup(TyperGroup):
    """A group whose help lists its commands by section."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - click's own types
        rows: dict[str, list[tuple[str, str]]] = {section: [] for section in Section}
        width = formatter.width - 6 - max(map(len, self.commands))
        for name in sorted(self.list_commands(ctx)):
            command: Any = self.commands[name]
            rows[command.rich_help_panel].append((name, command.get_short_help_str(width)))
        for section, listed in rows.items():
            if listed:
                with formatter.section(section):
                    formatter.write_dl(listed)
