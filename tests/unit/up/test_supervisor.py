"""The supervisor with small programs in place of the coordinator and the providers."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tandem.up.child import ChildFailed, ChildSpec
from tandem.up.supervisor import LaunchPlan, Supervisor

#: For hangs only.
_DEADLINE_S = 240.0
_NEVER_S = 1e6
_LISTENING = 'print(\'{"event": "listening", "port": 7}\', flush=True)\n'
_READY = 'print(\'{"event": "ready", "models": []}\', flush=True)\n'
_UNTIL_EOF = "import sys; sys.stdin.read()\n"
_COORDINATOR = _LISTENING + _UNTIL_EOF
_PROVIDER = _READY + _UNTIL_EOF


class Notes:
    """A reporter that remembers, and that can be waited for."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.echoed: list[str] = []
        self._changed = asyncio.Event()

    def progress(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)
        self._changed.set()

    def echo(self, name: str, line: str) -> None:
        self.echoed.append(f"{name}: {line}")

    async def until(self, text: str) -> None:
        while not any(text in note for note in self.notes):
            self._changed.clear()
            await self._changed.wait()


class Scene:
    """A supervisor that runs until the script of the test is through."""

    def __init__(
        self,
        tmp_path: Path,
        *,
        coordinator: str = _COORDINATOR,
        providers: tuple[str, ...] = (_PROVIDER,),
        start_timeout_s: float = 30.0,
        stop_timeout_s: float = 30.0,
    ) -> None:
        def spec(name: str, code: str) -> ChildSpec:
            return ChildSpec(name, [sys.executable, "-c", code], {}, tmp_path / f"{name}.log")

        self.notes = Notes()
        self.stop = asyncio.Event()
        self.ports: list[int] = []
        self._started = asyncio.Event()
        self.supervisor = Supervisor(
            LaunchPlan(
                coordinator=spec("coordinator", coordinator),
                providers=lambda _port: [
                    spec(f"provider-{number}", code) for number, code in enumerate(providers, 1)
                ],
                start_timeout_s=start_timeout_s,
                coordinator_stop_timeout_s=_NEVER_S,
                provider_stop_timeout_s=stop_timeout_s,
                stop_timeout_s=0.0,
                verbose=False,
            ),
            self.notes,
        )

    async def play(self, script: Callable[[Scene], Awaitable[None]]) -> None:
        """Runs `script` once everything has started, then stops; returns when all has ended."""

        async def on_started(port: int) -> None:
            self.ports.append(port)
            self._started.set()

        async def act() -> None:
            await self._started.wait()
            await script(self)
            self.stop.set()

        async with asyncio.timeout(_DEADLINE_S):
            acting = asyncio.ensure_future(act())
            try:
                await self.supervisor.run(self.stop, on_started)
            finally:
                acting.cancel()
                await asyncio.gather(acting, return_exceptions=True)


async def _nothing(_: Scene) -> None:
    pass


def _run(make: Callable[[], Scene], script: Callable[[Scene], Awaitable[None]]) -> Scene:
    async def scenario() -> Scene:
        scene = make()
        await scene.play(script)
        return scene

    return asyncio.run(scenario())


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_everything_starts_and_stops_and_nothing_is_left(tmp_path: Path) -> None:
    pids: list[int] = []

    async def script(scene: Scene) -> None:
        found = scene.supervisor.processes
        pids.extend([found.coordinator, *found.providers])

    scene = _run(lambda: Scene(tmp_path, providers=(_PROVIDER, _PROVIDER)), script)
    assert scene.ports == [7]
    assert scene.notes.notes == []
    assert len(set(pids)) == 3
    assert not any(map(_is_running, pids))


def test_the_coordinator_stops_before_the_providers(tmp_path: Path) -> None:
    def program(ready: str, told_to_stop: Path) -> str:
        return f"""
import pathlib, signal, sys, time
def stop(*_):
    pathlib.Path({str(told_to_stop)!r}).write_text(str(time.monotonic()))
    sys.exit()
signal.signal(signal.SIGTERM, stop)
{ready}{_UNTIL_EOF}"""

    ends = [tmp_path / "coordinator.end", tmp_path / "provider.end"]
    _run(
        lambda: Scene(
            tmp_path,
            coordinator=program(_LISTENING, ends[0]),
            providers=(program(_READY, ends[1]),),
        ),
        _nothing,
    )
    coordinator_s, provider_s = (float(end.read_text()) for end in ends)
    assert coordinator_s < provider_s


def test_a_provider_that_dies_is_started_again(tmp_path: Path) -> None:
    pids: list[int] = []

    async def script(scene: Scene) -> None:
        pids.extend(scene.supervisor.processes.providers)
        os.kill(pids[0], signal.SIGKILL)
        await scene.notes.until("serves again")
        pids.extend(scene.supervisor.processes.providers)

    scene = _run(lambda: Scene(tmp_path), script)
    assert pids[0] != pids[1]
    assert "provider-1 was killed by SIGKILL: starting it again" in scene.notes.notes[0]
    assert f"provider-1 serves again (pid {pids[1]})" in scene.notes.notes[1]


def test_a_provider_that_fails_to_come_back_is_tried_again(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flaky = f"""
import pathlib, sys
starts = pathlib.Path({str(flag)!r})
count = len(starts.read_text()) if starts.exists() else 0
starts.write_text("x" * (count + 1))
if count == 1:
    sys.exit("not this time")
{_PROVIDER}"""

    async def script(scene: Scene) -> None:
        os.kill(scene.supervisor.processes.providers[0], signal.SIGKILL)
        await scene.notes.until("serves again")

    scene = _run(lambda: Scene(tmp_path, providers=(flaky,)), script)
    assert any("ended with exit code 1 while starting" in note for note in scene.notes.notes)
    assert scene.notes.echoed == ["provider-1: not this time"]


@pytest.mark.parametrize("who", ["coordinator", "provider"])
def test_a_child_that_dies_while_starting_fails_the_start_and_shows_its_log(
    tmp_path: Path, who: str
) -> None:
    broken = "import sys; sys.exit('no such model')"

    def scene() -> Scene:
        if who == "coordinator":
            return Scene(tmp_path, coordinator=broken)
        return Scene(tmp_path, providers=(_PROVIDER, broken))

    with pytest.raises(ChildFailed, match=f"{who}.* ended with exit code 1 while starting"):
        _run(scene, _nothing)


def test_everything_stops_when_the_coordinator_dies(tmp_path: Path) -> None:
    pids: list[int] = []

    async def script(scene: Scene) -> None:
        pids.extend(scene.supervisor.processes.providers)
        os.kill(scene.supervisor.processes.coordinator, signal.SIGKILL)
        await asyncio.Event().wait()

    with pytest.raises(ChildFailed, match="coordinator was killed by SIGKILL"):
        _run(lambda: Scene(tmp_path), script)
    assert not any(map(_is_running, pids))


def test_the_start_has_a_deadline(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match=r"not ready after 0.5 s.*--start-timeout"):
        _run(lambda: Scene(tmp_path, providers=(_UNTIL_EOF,), start_timeout_s=0.5), _nothing)


_STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def test_a_child_that_does_not_stop_is_killed_and_named(tmp_path: Path) -> None:
    def scene() -> Scene:
        return Scene(tmp_path, providers=(_STUBBORN + _PROVIDER,), stop_timeout_s=0.5)

    notes = _run(scene, _nothing).notes.notes
    assert notes == ["provider-1 did not stop in 0.5 s: killed it."]


def test_a_child_that_breaks_while_stopping_is_named(tmp_path: Path) -> None:
    broken = f"""
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
{_PROVIDER}"""
    (note,) = _run(lambda: Scene(tmp_path, providers=(broken,)), _nothing).notes.notes
    assert note.startswith("provider-1 ended with exit code 3 while stopping: see")


def test_kill_ends_a_slow_stop_at_once(tmp_path: Path) -> None:
    async def script(scene: Scene) -> None:
        scene.stop.set()
        scene.supervisor.kill()

    def scene() -> Scene:
        return Scene(tmp_path, providers=(_STUBBORN + _PROVIDER,), stop_timeout_s=_NEVER_S)

    _run(scene, script)  # or it would not end
