"""The limit of open files, in a process of its own."""

from __future__ import annotations

import resource
import subprocess
import sys


def _limit_after(soft: int, hard: int) -> int:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    script = "from tandem.runtime import raise_descriptor_limit; print(raise_descriptor_limit())"
    done = subprocess.run(
        [sys.executable, "-c", script],
        preexec_fn=lower,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_it_is_raised_to_what_the_process_may_have() -> None:
    assert _limit_after(64, 200) == 200
    assert _limit_after(200, 200) == 200
