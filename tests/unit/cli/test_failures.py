from __future__ import annotations

import errno
import sys
from collections.abc import Iterator

import pytest
import typer

from tandem import errors
from tandem.cli.failures import ExitCode, describe, exit_code_for, report, run_commands
from tandem.client import NotServing
from tandem.errors import TandemError
from tandem.up import ChildFailed


def _all_errors(root: type[TandemError] = TandemError) -> Iterator[type[TandemError]]:
    yield root
    for child in root.__subclasses__():
        yield from _all_errors(child)


@pytest.mark.parametrize("kind", list(_all_errors()))
def test_every_error_is_one_line_and_has_an_exit_code(kind: type[TandemError]) -> None:
    error = kind("first line\n  second line.")
    assert describe(error).startswith("first line second line")
    assert "\n" not in describe(error)
    assert exit_code_for(error) in {ExitCode.FAILURE, ExitCode.USAGE, ExitCode.NOT_SERVING}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("x"), 2),
        (errors.CheckpointError("x"), 2),
        (errors.AuthenticationFailed("x"), 2),
        (errors.ContextLengthExceeded("x"), 2),
        (errors.ModelNotFound("x"), 2),
        (errors.NoProviderAvailable("x"), 3),
        (errors.ServiceStopping("x"), 3),
        (NotServing("x"), 3),
        (ChildFailed("x"), 1),
        (errors.Overloaded("x"), 1),
        (errors.InternalError("x"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 1),
    ],
)
def test_exit_codes_are_what_the_help_says(error: TandemError | OSError, code: int) -> None:
    assert exit_code_for(error) == code


def test_the_next_step_is_named_where_it_is_known() -> None:
    assert "TANDEM_API_KEY" in describe(errors.AuthenticationFailed("unknown key."))
    assert describe(OSError(errno.EACCES, "Permission denied", "/x")) == "Permission denied: /x"


def test_of_what_failed_together_the_first_is_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["serve"])
    app = typer.Typer()

    @app.command()
    def serve() -> None:
        inner = ExceptionGroup("", [errors.ConfigurationError("the first"), ValueError()])
        raise ExceptionGroup("", [inner, errors.InternalError("the second")])

    with pytest.raises(SystemExit) as exited:
        run_commands(app, "serve")
    assert exited.value.code == ExitCode.USAGE
    assert capsys.readouterr().err == "error: the first\n"


def test_a_group_of_bugs_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["serve"])
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def serve() -> None:
        raise ExceptionGroup("", [ValueError("a bug")])

    with pytest.raises(ExceptionGroup):
        run_commands(app, "serve")


def test_errors_go_to_stderr_without_markup(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(errors.ConfigurationError("pip install 'tandem[torch]'")) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: pip install 'tandem[torch]'\n"


def test_a_join_token_that_is_refused_is_no_matter_of_api_keys() -> None:
    assert "--api-key" in describe(errors.AuthenticationFailed("unknown key"))
    assert "--api-key" not in describe(errors.AuthenticationFailed("used up", param="join_token"))
