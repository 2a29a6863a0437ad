"""One child process of `tandem up`: how it starts, says that it is ready, and ends.

A child runs in a session of its own, so that the terminal's Ctrl-C reaches `up` only. Its
standard input is a pipe that `up` holds and never writes to: when `up` dies, however it dies, the
kernel closes the pipe and the child stops. Its standard error goes to a log file.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec

from tandem.errors import TandemError
from tandem.runtime import open_log
from tandem.up.events import ChildEvent
from tandem.up.processes import first_event, lines, read_to_end, start_process

_LOG_TAIL_BYTES = 16 * 1024
_LOG_TAIL_LINES = 12
_PUMP_TIMEOUT_S = 2.0


class ChildFailed(TandemError):
    """A process that `tandem up` started ended, or did not get ready in time."""

    code = "child_failed"


class ChildSpec(msgspec.Struct, frozen=True):
    """What to run. Secrets go into `environment`: other users can read a command."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log_path: Path


class Child:
    """Started with `start`; then `pump` must run in a task until the child has ended."""

    def __init__(
        self,
        spec: ChildSpec,
        process: asyncio.subprocess.Process,
        log: BinaryIO,
        echo: Callable[[str], None] | None,
    ) -> None:
        self.spec = spec
        self._process = process
        self._log = log
        self._echo = echo
        self._first_event: asyncio.Future[ChildEvent | None]
        self._first_event = asyncio.get_running_loop().create_future()
        self._pumped = asyncio.Event()
        self._killed = False

    @classmethod
    async def start(cls, spec: ChildSpec, *, echo: Callable[[str], None] | None) -> Child:
        """`echo` gets every line of the child's stderr, besides the log file."""
        log = open_log(spec.log_path)
        try:
            process = await start_process(
                spec.command,
                environment={**os.environ, **spec.environment},
                stderr=log if echo is None else asyncio.subprocess.PIPE,
            )
        except BaseException:
            log.close()
            raise
        return cls(spec, process, log, echo)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    @property
    def stopped_cleanly(self) -> bool:
        """Whether it ended as it was told to, by SIGTERM at the latest or by our SIGKILL."""
        return self._killed or self._process.returncode in (0, -signal.SIGTERM)

    async def pump(self) -> None:
        """Reads what the child writes until it has ended, so that no full pipe ever stops it."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_events())
                if self._process.stderr is not None:
                    group.create_task(self._copy_stderr(self._process.stderr))
        finally:
            self._pumped.set()
            self._log.close()

    async def first_event(self) -> ChildEvent:
        """What the child says when it is up; raises ChildFailed when it ends without a word."""
        event = await self._first_event
        if event is None:
            raise ChildFailed(f"{self.spec.name} {await self.ended()} while starting")
        return event

    async def ended(self) -> str:
        """Waits for the end and words it: `ended with exit code 1`, `was killed by SIGKILL`."""
        code = await self._process.wait()
        # The log is complete when the pipes are; a grandchild may hold one open for longer.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._pumped.wait(), _PUMP_TIMEOUT_S)
        return how_it_ended(code)

    def log_tail(self) -> list[str]:
        """The last lines that the child wrote to stderr."""
        return tail(self.spec.log_path)

    def terminate(self) -> None:
        if not self.has_ended:
            self._process.terminate()

    def kill(self) -> None:
        """Ends the child, and whatever it started, at once."""
        if self.has_ended:
            return
        self._killed = True
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    async def _read_events(self) -> None:
        assert self._process.stdout is not None
        try:
            event = await first_event(self._process)
            if not self._first_event.done():  # nobody waits for it any more
                self._first_event.set_result(event)
            await read_to_end(self._process.stdout)
        finally:
            if not self._first_event.done():
                self._first_event.set_result(None)

    async def _copy_stderr(self, stderr: asyncio.StreamReader) -> None:
        assert self._echo is not None
        async for line in lines(stderr):
            self._log.write(line + b"\n")
            self._echo(line.decode(errors="replace"))


def how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"


def tail(path: Path) -> list[str]:
    """The last lines of a log, without reading all of it."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _LOG_TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.splitlines() if line.strip()][-_LOG_TAIL_LINES:]


def rotate(path: Path, *, keep: int = 3) -> None:
    """Makes room for a new log: `a.log` becomes `a.log.1`, and so on; the oldest goes."""
    for number in range(keep, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        newer = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        if newer.exists():
            newer.replace(older)
