"""One process a folder: a lock that the kernel drops when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tandem.errors import ConfigurationError
from tandem.runtime.paths import create_data_dir


@contextmanager
def only_one(who: str, data_dir: Path, lock_file: str) -> Iterator[None]:
    """Holds the folder for one of `who`; raises ConfigurationError naming the process that has it.

    The file stays behind: removing it would let a third process lock a new file of the same name
    while a second one still waits on the old.
    """
    create_data_dir(data_dir)
    descriptor = os.open(data_dir / lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _already_running(who, data_dir, descriptor) from None
        _say(descriptor, f"{os.getpid()}\n")
        yield
        _say(descriptor, "")
    finally:
        os.close(descriptor)


def _say(descriptor: int, text: str) -> None:
    """Whose the lock is, for people; on a full disk it goes unsaid."""
    with suppress(OSError):
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)


def _already_running(who: str, data_dir: Path, descriptor: int) -> ConfigurationError:
    pid = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    holder = f"pid {pid}" if pid.isdigit() else "its pid is not known yet"
    return ConfigurationError(
        f"{who} already runs on {data_dir} ({holder}):"
        " stop it, or give this one a folder of its own with --data-dir"
    )
