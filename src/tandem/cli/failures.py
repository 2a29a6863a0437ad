"""How the command line fails: its exit codes, its own errors, and the one place that prints them.

`run_commands` hands every `TandemError` and `OSError` to `report`, which prints one line on stderr
that says what happened and what to do next, and returns the exit code.
"""

from __future__ import annotations

import sys
from enum import IntEnum

import typer

from tandem.client import NotServing
from tandem.errors import (
    AuthenticationFailed,
    CheckpointError,
    ConfigurationError,
    InvalidRequest,
    NoProviderAvailable,
    NotFound,
    Overloaded,
    PermissionRefused,
    ServiceStopping,
    TandemError,
)
from tandem.runtime import first_failure, prepare_standard_streams


class ExitCode(IntEnum):
    """What the process's exit code tells a script."""

    OK = 0
    FAILURE = 1  # it was tried, and did not work
    USAGE = 2  # an option, a file or the request itself is wrong: trying again will not help
    NOT_SERVING = 3  # nobody answers there, or nobody there can serve now: it may help later
    INTERRUPTED = 130  # Ctrl-C, as shells number it (128 + SIGINT)


_EXIT_CODES: tuple[tuple[type[TandemError], ExitCode], ...] = (
    (NotServing, ExitCode.NOT_SERVING),
    (NoProviderAvailable, ExitCode.NOT_SERVING),
    (ServiceStopping, ExitCode.NOT_SERVING),
    (ConfigurationError, ExitCode.USAGE),
    (CheckpointError, ExitCode.USAGE),
    (AuthenticationFailed, ExitCode.USAGE),
    (PermissionRefused, ExitCode.USAGE),
    (InvalidRequest, ExitCode.USAGE),
    (NotFound, ExitCode.USAGE),
)

_NEXT_STEPS: tuple[tuple[type[TandemError], str], ...] = (
    (AuthenticationFailed, "check --api-key or TANDEM_API_KEY"),
    (NoProviderAvailable, "see `tandem status`"),
    (Overloaded, "try again in a moment"),
)


def exit_code_for(error: TandemError | OSError) -> ExitCode:
    for kind, code in _EXIT_CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.FAILURE


def describe(error: TandemError | OSError) -> str:
    """One line: what happened and, where that is known, what to do about it."""
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        text = f"{error.strerror or error}{where}"
    else:
        text = error.message
    line = " ".join(text.split()).rstrip(".")
    if isinstance(error, TandemError) and error.param == "join_token":
        return line  # it says itself what to do, and no API key would help
    for kind, step in _NEXT_STEPS:
        if isinstance(error, kind):
            return f"{line} ({step})"
    return line


def run_commands(app: typer.Typer, name: str) -> None:
    """What a program's `main` is: runs the command line, and ends the process when it fails.

    Of what failed together in a task group the first is reported.
    """
    prepare_standard_streams()
    try:
        app(prog_name=name)
    except (TandemError, OSError) as error:
        sys.exit(report(error))
    except UnicodeEncodeError as error:
        sys.exit(report(ConfigurationError(f"{error.object!a} is not text in UTF-8")))
    except BaseExceptionGroup as failures:
        first = first_failure(failures.subgroup((TandemError, OSError)) or failures)
        if not isinstance(first, TandemError | OSError):
            raise
        sys.exit(report(first))


def as_text(argument: str) -> str:
    """What was typed, with U+FFFD for the bytes that are no text."""
    return argument.encode(errors="surrogateescape").decode(errors="replace")


def report(error: TandemError | OSError) -> ExitCode:
    """Prints the error on stderr and returns the exit code the process should end with."""
    from tandem.cli.output import printable, stderr

    stderr().print("error:", style="bold red", end=" ")
    stderr().print(printable(describe(error)), markup=False, highlight=False, soft_wrap=True)
    return exit_code_for(error)
