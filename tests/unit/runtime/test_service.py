"""One way to run a service: how it starts, and the ways in which it stops."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys

import pytest

from tandem import runtime
from tandem.runtime import drain

_SERVICE = """
import asyncio
from tandem.runtime import Stop, configure_logging, run_service
configure_logging("info")
async def main(stop: Stop) -> None:
    print("up", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    if {linger}:
        await asyncio.Event().wait()
run_service(main, stop_on_stdin_eof=True)
"""


def _start(*, linger: bool = False) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVICE.format(linger=linger)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_service_in_order(signum: signal.Signals) -> None:
    with _start() as process:
        process.send_signal(signum)
        assert process.wait(30) == 0
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read() == "stopping\n"
        assert json.loads(process.stderr.readline())["event"] == "stop_requested"


def test_a_signal_after_the_end_of_standard_input_is_the_first() -> None:
    with _start(linger=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.close()
        assert process.stdout.readline() == "stopping\n"
        process.terminate()
        assert json.loads(process.stderr.readline())["event"] == "stop_requested"
        process.terminate()
        assert json.loads(process.stderr.readline())["event"] == "forced_exit"
        assert process.wait(30) == 130


def test_a_second_signal_ends_it_at_once() -> None:
    with _start(linger=True) as process:
        process.terminate()
        assert process.stdout is not None
        assert process.stdout.readline() == "stopping\n"
        process.terminate()
        process.communicate(timeout=240)
    assert process.returncode == 130


def test_the_end_of_standard_input_stops_it() -> None:
    with _start() as process:
        process.communicate(timeout=240)
    assert process.returncode == 0


@pytest.mark.parametrize(("ends", "timeout_s"), [(True, 60.0), (False, 0.0)])
def test_what_runs_is_waited_for_only_so_long(ends: bool, timeout_s: float) -> None:
    ended = []

    async def idle() -> None:
        if not ends:
            await asyncio.Event().wait()
        ended.append(True)

    asyncio.run(drain(idle(), timeout_s))
    assert ended == ([True] if ends else [])


def test_all_parts_of_a_stop_fit_into_its_limit() -> None:
    inside = runtime.DRAIN_TIMEOUT_S + runtime.CLOSE_TIMEOUT_S
    assert inside < runtime.COORDINATOR_STOP_TIMEOUT_S
    parts = runtime.COORDINATOR_STOP_TIMEOUT_S + runtime.PROVIDER_STOP_TIMEOUT_S
    assert parts <= runtime.UP_STOP_TIMEOUT_S < runtime.STOP_LIMIT_S
