"""Fixtures of the command line's tests: running a command in this process, and a fake service."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from tests.support.fake_service import KEY, FakeService

from tandem.cli import main
from tandem.client import UpSession, write_session
from tandem.runtime.logging import FromLibraries

RunCli = Callable[..., int]


@pytest.fixture(autouse=True)
def _no_outside_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "BASE_URL", "JOIN_TOKEN", "DATA_DIR"):
        monkeypatch.delenv(f"TANDEM_{name}", raising=False)


@pytest.fixture(autouse=True)
def _no_lasting_log() -> Iterator[None]:
    """A command that ran in this process must not leave its log on a stream that is closed."""
    yield
    structlog.reset_defaults()
    root = logging.getLogger()
    for handler in [*root.handlers]:
        if isinstance(handler, FromLibraries):
            root.removeHandler(handler)


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch) -> RunCli:
    """Runs `tandem` with these arguments as the real entry point does; returns the exit code."""

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["tandem", *arguments])
        with pytest.raises(SystemExit) as exited:
            main()
        code = exited.value.code
        assert isinstance(code, int)
        return code

    return run


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeService]:
    """A fake service, found as a running `tandem up` is: through the data folder's session."""
    monkeypatch.setenv("TANDEM_DATA_DIR", str(tmp_path))
    with FakeService() as fake:
        thread = threading.Thread(target=fake.serve_forever)
        thread.start()
        write_session(tmp_path, UpSession(fake.base_url, KEY))
        yield fake
        fake.shutdown()
        thread.join(10.0)
