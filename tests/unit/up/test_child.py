from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tandem.up.child import Child, ChildFailed, ChildSpec, how_it_ended, rotate, tail
from tandem.up.events import Listening

_DEADLINE_S = 240.0


def _spec(tmp_path: Path, code: str) -> ChildSpec:
    return ChildSpec("child", [sys.executable, "-c", code], {"SECRET": "s"}, tmp_path / "child.log")


async def _with_child(spec: ChildSpec, echoed: list[str] | None = None) -> tuple[object, str]:
    """The first event, or the error it failed with, and how the child ended."""
    async with asyncio.timeout(_DEADLINE_S), asyncio.TaskGroup() as pumps:
        child = await Child.start(spec, echo=None if echoed is None else echoed.append)
        pumps.create_task(child.pump())
        try:
            event: object = await child.first_event()
        except ChildFailed as failure:
            event = failure.message
        child.terminate()
        return event, await child.ended()


def test_the_first_event_is_found_among_other_output(tmp_path: Path) -> None:
    code = """
import sys
print("a library says hello")
print('{"event": "listening", "port": 7}', flush=True)
print("x" * 300_000, flush=True)
sys.stdin.read()
"""
    event, how = asyncio.run(_with_child(_spec(tmp_path, code)))
    assert event == Listening(7)
    assert how == "was killed by SIGTERM"


@pytest.mark.parametrize("echo", [False, True])
def test_a_child_that_dies_first_is_described_and_its_log_kept(
    tmp_path: Path, *, echo: bool
) -> None:
    code = "import sys; print('the reason', file=sys.stderr); sys.exit(2)"
    echoed: list[str] | None = [] if echo else None
    event, _ = asyncio.run(_with_child(_spec(tmp_path, code), echoed))
    assert event == "child ended with exit code 2 while starting"
    assert tail(tmp_path / "child.log") == ["the reason"]
    assert echoed in (None, ["the reason"])


def test_a_child_gets_its_secrets_by_environment_and_a_session_of_its_own(tmp_path: Path) -> None:
    code = (
        "import os, sys; print(os.environ['SECRET'], os.getsid(0) == os.getpid(), file=sys.stderr)"
    )
    asyncio.run(_with_child(_spec(tmp_path, code)))
    assert tail(tmp_path / "child.log") == ["s True"]


def test_kill_takes_what_the_child_started_along(tmp_path: Path) -> None:
    code = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print('{"event": "listening", "port": 7}', flush=True)
time.sleep(600)
"""

    async def scenario() -> str:
        # The grandchild holds the stdout pipe: the pump ends only when it has gone as well.
        async with asyncio.timeout(_DEADLINE_S), asyncio.TaskGroup() as pumps:
            child = await Child.start(_spec(tmp_path, code), echo=None)
            pumps.create_task(child.pump())
            await child.first_event()
            child.kill()
            return await child.ended()

    assert asyncio.run(scenario()) == "was killed by SIGKILL"


def test_how_a_process_ended_is_worded() -> None:
    assert how_it_ended(0) == "ended with exit code 0"
    assert how_it_ended(-signal.SIGKILL) == "was killed by SIGKILL"
    assert how_it_ended(-250) == "was killed by signal 250"


def test_the_tail_of_a_log_is_short_and_a_missing_log_is_empty(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    assert tail(log) == []
    log.write_text("\n".join(str(number) for number in range(100_000)) + "\n\n")
    assert tail(log)[-1] == "99999"
    assert len(tail(log)) == 12


def test_rotation_keeps_a_few_and_drops_the_oldest(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    for number in range(5):
        log.write_text(str(number))
        rotate(log, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.log.1", "a.log.2"]
    assert (tmp_path / "a.log.1").read_text() == "4"
