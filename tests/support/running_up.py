"""Runs the real thing for tests: `tandem up` with the shipped model, on loopback."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from typing import IO

import httpx2
import psutil
from tests.support.waiting import DEADLINE_S

from tandem.up import tandem_command

_ROOT = Path(__file__).parents[2]


class Up:
    """A running `tandem up --json`: its ready line, its output, its processes."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.data_dir = data_dir
        command = tandem_command("up", "--json", "--port=0")
        command += [
            "--kv-tokens=4096",
            "--threads=1",
            "--device=cpu",
            f"--data-dir={data_dir}",
            *arguments,
        ]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=outside_settings(),
        )
        self.stdout_lines: list[str] = []
        self.stderr_lines: list[str] = []
        self._out: Queue[str | None] = Queue()
        self._err: Queue[str | None] = Queue()
        self._readers = [
            threading.Thread(target=_read, args=(stream, lines, queue), daemon=True)
            for stream, lines, queue in (
                (self.process.stdout, self.stdout_lines, self._out),
                (self.process.stderr, self.stderr_lines, self._err),
            )
        ]
        for reader in self._readers:
            reader.start()
        line = self._out.get(timeout=DEADLINE_S)
        assert line is not None, "".join(self.stderr_lines)
        self.ready = json.loads(line)
        #: Those of now, in the order in which they were started first.
        self.provider_pids: list[int] = self.ready["processes"]["providers"]

    @property
    def base_url(self) -> str:
        return str(self.ready["base_url"])

    @property
    def api_key(self) -> str:
        return str(self.ready["api_key"])

    @property
    def operator_key(self) -> str:
        return str(self.ready["operator_key"])

    @property
    def model(self) -> str:
        return str(self.ready["models"][0])

    @property
    def coordinator_pid(self) -> int:
        return int(self.ready["processes"]["coordinator"])

    @property
    def children(self) -> list[psutil.Process]:
        return [psutil.Process(pid) for pid in (self.coordinator_pid, *self.provider_pids)]

    def until_stderr(self, text: str) -> str:
        """Waits for a line on stderr."""
        while text not in (line := self._err.get(timeout=DEADLINE_S) or ""):
            assert self.process.poll() is None, "".join(self.stderr_lines)
        return line

    def until_provider_is_back(self, number: int) -> None:
        """Waits until the provider of this number, which has ended, was started again."""
        told = re.search(r"serves again \(pid (\d+)\)", self.until_stderr("serves again"))
        assert told is not None
        self.provider_pids[number] = int(told.group(1))

    def stop(self, signum: signal.Signals = signal.SIGINT) -> int:
        self.process.send_signal(signum)
        return self.wait()

    def wait(self) -> int:
        """The exit code, once everything that it wrote has been read."""
        code = self.process.wait(DEADLINE_S)
        for reader in self._readers:
            reader.join(DEADLINE_S)
        return code


def stream_texts(
    up: Up, disturb: Callable[[], None] | None = None, *, n: int = 1, **more: object
) -> dict[int, str]:
    """The text of each choice of a stream of 300 tokens; `disturb` is called in the middle.

    The stream must end well, and count every token once.
    """
    texts = dict.fromkeys(range(n), "")
    request = {
        "model": up.model,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 300,
        "n": n,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        **more,
    }
    headers = {"Authorization": f"Bearer {up.api_key}"}
    data = ""
    with (
        httpx2.Client(headers=headers, timeout=DEADLINE_S) as http,
        http.stream("POST", f"{up.base_url}/chat/completions", json=request) as response,
    ):
        assert response.status_code == 200
        # Comments come after ten seconds of silence.
        lines = (line for line in response.iter_lines() if line and not line.startswith(":"))
        for number, line in enumerate(lines):
            data = line.removeprefix("data: ")
            if data == "[DONE]":
                break
            event = json.loads(data)
            assert "error" not in event, event
            for choice in event["choices"]:
                texts[choice["index"]] += choice["delta"].get("content") or ""
            if event["usage"]:
                assert event["usage"]["completion_tokens"] == 300 * n
            if number == 8 and disturb is not None:
                disturb()
    assert data == "[DONE]"
    return texts


def outside_settings() -> dict[str, str]:
    """The environment without the settings of whoever runs the tests."""
    return {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}


def tandem(
    *arguments: str, data_dir: Path, timeout_s: float = DEADLINE_S
) -> subprocess.CompletedProcess[str]:
    """Runs another command to its end."""
    return subprocess.run(
        tandem_command(*arguments),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**outside_settings(), "TANDEM_DATA_DIR": str(data_dir)},
    )


def race(*arguments: str, timeout_s: float = DEADLINE_S) -> subprocess.CompletedProcess[str]:
    """Runs `python -m benchmarks ARGUMENTS` to its end, from the root of the repository."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        stdin=subprocess.DEVNULL,
        env=outside_settings(),
    )


@contextmanager
def running_up(data_dir: Path, *arguments: str) -> Iterator[Up]:
    up = Up(data_dir, *arguments)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.stop()
        up.wait()


def _read(stream: IO[str], lines: list[str], queue: Queue[str | None]) -> None:
    with stream:
        for line in stream:
            lines.append(line)
            queue.put(line)
    queue.put(None)
