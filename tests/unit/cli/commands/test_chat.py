"""`tandem chat` as a person sees it: a real process on a pseudo-terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.support.fake_service import FakeService

from tandem.up import tandem_command

_DEADLINE_S = 240.0
#: Makes the terminal the process's own, so that ^C arrives as a signal; a background job that runs
#: these tests would pass on that it ignores it.
_LOGIN = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.login_tty(0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """The far end of a pseudo-terminal, and the process on it."""

    def __init__(self, command: list[str]) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _LOGIN, *command],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
        )
        os.close(slave)
        self._seen = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, pattern: str) -> None:
        """Reads until the pattern appears; what came before and with it is consumed."""
        assert self._appears(pattern, _DEADLINE_S), f"no {pattern!r} in {self._seen[-2000:]!r}"

    def interrupt_until(self, pattern: str) -> None:
        """Presses Ctrl-C, and again when nothing happens, as people do.

        Python's line editor misses one that arrives just before it starts to wait for a key.
        """
        for _ in range(10):
            self.type("\x03")
            if self._appears(pattern, _DEADLINE_S / 10):
                return
        self.until(pattern)

    def _appears(self, pattern: str, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while (found := re.search(pattern, self._seen)) is None:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self._master], [], [], max(0.0, left))
            if not ready:
                return False
            self._seen += os.read(self._master, 65536).decode(errors="replace")
        self._seen = self._seen[found.end() :]
        return True

    def close(self) -> None:
        os.close(self._master)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(_DEADLINE_S)


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    opened = Terminal(tandem_command(*arguments))
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def chat(service: FakeService) -> Iterator[Terminal]:
    with terminal("chat") as opened:
        opened.until("Talking to echo")
        opened.until("> ")
        yield opened


def test_several_turns_and_a_way_out(chat: Terminal) -> None:
    chat.type("hello\n")
    chat.until("You said: hello")
    chat.until("> ")
    chat.type("again\n")
    chat.until("You said: again")
    chat.until("> ")
    chat.type("/exit\n")
    assert chat.process.wait(_DEADLINE_S) == 0


def test_ctrl_c_stops_the_answer_and_not_the_chat(chat: Terminal, service: FakeService) -> None:
    chat.type("forever\n")
    chat.until("more more")
    chat.type("\x03")
    chat.until("(stopped)")
    assert service.gone.wait(_DEADLINE_S)
    chat.until("> ")
    chat.type("hello\n")
    chat.until("You said: hello")


def test_ctrl_c_at_the_prompt_drops_the_line_and_ctrl_d_leaves(chat: Terminal) -> None:
    chat.type("half a line")
    chat.until("half a line")
    chat.interrupt_until("Ctrl-D leaves")
    chat.until("> ")
    chat.type("\x04")
    assert chat.process.wait(_DEADLINE_S) == 0


def test_ctrl_c_ends_run_with_130_and_stops_the_generation(service: FakeService) -> None:
    with terminal("run", "forever") as opened:
        opened.until("more more")
        opened.type("\x03")
        assert opened.process.wait(_DEADLINE_S) == 130
    assert service.gone.wait(_DEADLINE_S)
