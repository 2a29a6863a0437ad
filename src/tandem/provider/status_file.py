"""What this machine does in a cluster, in a file for `tandem cluster status`.

A convenience: where it cannot be written, as on a full disk, the provider serves on without it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from tandem.protocol.cluster import NodeReport

log = structlog.get_logger(__name__)


class StatusFile:
    """`write` and `remove` never raise for what the disk does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._draft = path.with_name(f".{path.name}.{os.getpid()}")
        self._problem: str | None = None

    def write(self, report: NodeReport) -> None:
        """Replaces what was there as a whole. A reason why not is logged when it is a new one."""
        try:
            self._draft.write_bytes(msgspec.json.encode(report))
            self._draft.replace(self._path)
        except OSError as error:
            problem = error.strerror or str(error)
            if problem != self._problem:
                log.warning("status_not_written", path=str(self._path), reason=problem)
            self._problem = problem
        else:
            self._problem = None

    def remove(self) -> None:
        for path in (self._draft, self._path):
            with suppress(OSError):  # whose process is gone is told by its number
                path.unlink()
