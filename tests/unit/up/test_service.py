"""`tandem up` around fake processes: signals, the session file, and what is printed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support import fake_service

from tandem.cli.up_screen import TerminalScreen
from tandem.client import read_session
from tandem.up.child import ChildFailed, ChildSpec
from tandem.up.launch import UpOptions
from tandem.up.service import SessionKeys, UpService
from tandem.up.supervisor import LaunchPlan

#: For hangs only.
_DEADLINE_S = 240.0
_PROVIDER = 'print(\'{"event": "ready", "models": []}\', flush=True); import sys; sys.stdin.read()'
_STUBBORN = f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{_PROVIDER}"
_STARTING = "import sys; sys.stderr.write('loading\\n'); sys.stderr.flush(); sys.stdin.read()"


def _options(data_dir: Path) -> UpOptions:
    return UpOptions(
        provider_arguments=[],
        providers=1,
        ranks=1,
        parallelism="auto",
        host="127.0.0.1",
        port=0,
        tls="off",
        data_dir=data_dir,
        request_timeout_s=10.0,
        start_timeout_s=240.0,
        verbose=False,
    )


def _service(data_dir: Path, *, provider: str = _PROVIDER, as_json: bool = True) -> UpService:
    def spec(name: str, *command: str) -> ChildSpec:
        return ChildSpec(name, [sys.executable, *command], {}, data_dir / f"{name}.log")

    plan = LaunchPlan(
        coordinator=spec("coordinator", fake_service.__file__),
        providers=lambda _port: [spec("provider-1", "-c", provider)],
        start_timeout_s=240.0,
        coordinator_stop_timeout_s=1e6,
        provider_stop_timeout_s=1e6,
        verbose=False,
    )
    options = _options(data_dir)
    keys = SessionKeys(fake_service.KEY, fake_service.KEY)
    return UpService(options, plan, keys, TerminalScreen(options, as_json=as_json))


def _serve(
    service: UpService, data_dir: Path, when_ready: Callable[[asyncio.AbstractEventLoop], None]
) -> bool:
    """Runs it; `when_ready` is called once the session file is there."""

    async def scenario() -> bool:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        original = service._screen.ready

        def tell(*args: object, **kwargs: object) -> None:
            original(*args, **kwargs)  # type: ignore[arg-type]
            ready.set()

        service._screen.ready = tell  # type: ignore[method-assign]
        async with asyncio.timeout(_DEADLINE_S), asyncio.TaskGroup() as group:
            running = group.create_task(service.run())
            await ready.wait()
            assert read_session(data_dir) is not None
            when_ready(loop)
            return await running

    return asyncio.run(scenario())


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_with_exit_code_0(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], signum: signal.Signals
) -> None:
    code = _serve(_service(tmp_path), tmp_path, lambda _loop: os.kill(os.getpid(), signum))
    assert code
    assert read_session(tmp_path) is None
    (line,) = capsys.readouterr().out.splitlines()
    ready = json.loads(line)
    assert ready["event"] == "ready"
    assert ready["models"] == ["echo"]
    assert ready["base_url"].startswith("http://127.0.0.1:")
    assert ready["base_url"].endswith("/v1")
    for pid in (ready["processes"]["coordinator"], *ready["processes"]["providers"]):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_second_signal_kills_what_does_not_stop(tmp_path: Path) -> None:
    def twice(loop: asyncio.AbstractEventLoop) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        loop.call_soon(os.kill, os.getpid(), signal.SIGINT)

    assert not _serve(_service(tmp_path, provider=_STUBBORN), tmp_path, twice)
    assert read_session(tmp_path) is None


def test_people_get_snippets_to_paste(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _serve(
        _service(tmp_path, as_json=False),
        tmp_path,
        lambda _loop: os.kill(os.getpid(), signal.SIGINT),
    )
    banner = capsys.readouterr().out
    for expected in ("curl http://127.0.0.1:", "from openai import OpenAI", "Ctrl-C", "sk-fake"):
        assert expected in banner
    assert f"chat --data-dir {tmp_path}" in banner


def test_a_failed_start_leaves_no_session(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    service = _service(tmp_path, provider="import sys; sys.exit('error: no such model')")
    with pytest.raises(ChildFailed, match="provider-1 ended with exit code 1"):
        asyncio.run(service.run())
    captured = capsys.readouterr()
    assert "[provider-1] error: no such model" in captured.err
    assert captured.out == ""
    assert read_session(tmp_path) is None


def test_a_stop_before_it_was_ready_is_an_interruption(tmp_path: Path) -> None:
    service = _service(tmp_path, provider=_STARTING)

    async def scenario() -> bool:
        async with asyncio.timeout(_DEADLINE_S):
            asyncio.get_running_loop().call_soon(service._on_signal)
            return await service.run()

    assert not asyncio.run(scenario())
