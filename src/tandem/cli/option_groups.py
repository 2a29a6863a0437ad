"""Options that go together, declared once as a struct, whose fields are the options.

A command takes the struct as one parameter; whoever types the command sees its fields. So an
option that several commands share is one field, and a command's code has no list of twenty names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from inspect import Parameter
from typing import get_type_hints

import msgspec


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as Typer has to see it: with fields in place of the structs that it takes."""
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters
    groups = {name: hints[name] for name in parameters if _is_group(hints[name])}
    if not groups:
        return command

    @wraps(command)
    def flat(**given: object) -> None:
        filled = {
            name: group(**{field: given.pop(field) for field in group.__struct_fields__})
            for name, group in groups.items()
        }
        command(**given, **filled)

    shown: list[Parameter] = []
    for name, own in parameters.items():
        if name in groups:
            shown += _options_of(groups[name])
        else:
            shown.append(own.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name]))
    setattr(flat, "__signature__", inspect.Signature(shown))  # noqa: B010 - no attribute of a type
    return flat


def arguments_of(group: msgspec.Struct) -> list[str]:
    """What was given, as arguments of another command that has the same options."""
    return [
        f"--{name.replace('_', '-')}={value}"
        for name, value in msgspec.structs.asdict(group).items()
        if value is not None
    ]


def _is_group(hint: object) -> bool:
    return isinstance(hint, type) and issubclass(hint, msgspec.Struct)


def _options_of(group: type[msgspec.Struct]) -> Iterator[Parameter]:
    hints = get_type_hints(group, include_extras=True)
    for field in msgspec.structs.fields(group):
        default = Parameter.empty if field.required else field.default
        yield Parameter(
            field.name, Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
        )
