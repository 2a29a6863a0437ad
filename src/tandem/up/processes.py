"""Tandem's commands as processes: the command line, the start, and the word that one is up.

Whoever runs `tandem coordinator` or `tandem provider` beside itself does it through here: `tandem
up`, the benchmarks and the tests.
"""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import BinaryIO

from tandem.up.events import ChildEvent, decode_child_event

#: With it a process ends when its parent does, which holds its standard input.
STOP_WITH_PARENT = "--stop-on-stdin-eof"
_READ_BYTES = 64 * 1024
_LINE_LIMIT_BYTES = 1024 * 1024
_LINE_ENDS = re.compile(rb"[\r\n]+")


def tandem_command(*arguments: str) -> list[str]:
    """The command line of `tandem ARGUMENTS`, with this interpreter and this installation.

    -P: a folder called `tandem` in the current one must not shadow the package.
    """
    return [sys.executable, "-P", "-m", "tandem", *arguments]


async def start_process(
    command: Sequence[str], *, environment: Mapping[str, str], stderr: BinaryIO | int
) -> Process:
    """In a session of its own: a Ctrl-C at the terminal is ours to pass on.

    `environment` is all that it gets, and has its secrets: other users can read a command.
    """
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=stderr,
        env=dict(environment),
        start_new_session=True,
    )


async def first_event(process: Process) -> ChildEvent | None:
    """What it says when it is up; None when it ends without a word."""
    assert process.stdout is not None
    async with aclosing(lines(process.stdout)) as said:
        async for line in said:
            event = decode_child_event(line)
            if event is not None:
                return event
    return None


async def read_to_end(stream: asyncio.StreamReader) -> None:
    """So that whoever writes there never waits for a reader."""
    while await stream.read(_READ_BYTES):
        pass


async def lines(stream: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    """Non-empty lines, ended by LF or by the CR of a progress bar; an endless one is cut."""
    pending = b""
    while received := await stream.read(_READ_BYTES):
        *whole, pending = _LINE_ENDS.split(pending + received)
        if len(pending) > _LINE_LIMIT_BYTES:
            whole, pending = [*whole, pending], b""
        for line in whole:
            if line:
                yield line
    if pending:
        yield pending
