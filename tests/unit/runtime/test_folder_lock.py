"""One process a folder; what is left of one that died is no obstacle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tandem.errors import ConfigurationError
from tandem.runtime import only_one

_HOLD = (
    "import sys, time; from pathlib import Path; from tandem.runtime import only_one\n"
    "with only_one('another', Path(sys.argv[1]), 'x.lock'):\n"
    "    print('held', flush=True); time.sleep(600)"
)


def test_a_second_one_is_refused_while_the_first_lives_and_not_after(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        refused = pytest.raises(ConfigurationError, match=rf"pid {first.pid}.*--data-dir")
        with refused, only_one("a third", tmp_path, "x.lock"):
            pass
        first.send_signal(signal.SIGKILL)
        first.wait()
    with only_one("a third", tmp_path, "x.lock"):
        assert (tmp_path / "x.lock").read_text() == f"{os.getpid()}\n"


def test_folders_and_purposes_are_apart(tmp_path: Path) -> None:
    with (
        only_one("a", tmp_path, "a.lock"),
        only_one("b", tmp_path, "b.lock"),
        only_one("a", tmp_path / "other", "a.lock"),
    ):
        pass
