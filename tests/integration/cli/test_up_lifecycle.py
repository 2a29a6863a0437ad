"""How `tandem up` ends, and what it survives. Each test has a service of its own."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import psutil
import pytest
from openai import APIError, OpenAI
from tests.support.running_up import running_up, tandem
from tests.support.waiting import DEADLINE_S

from tandem.client import read_session


def _all_gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=DEADLINE_S)
    return not alive


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything(tmp_path: Path, signum: signal.Signals) -> None:
    with running_up(tmp_path) as up:
        children = up.children
        assert up.stop(signum) == 0
        assert _all_gone(children)
        assert len(up.stdout_lines) == 1
    assert read_session(tmp_path) is None
    keys = json.loads(tandem("keys", "list", "--json", data_dir=tmp_path).stdout)
    assert all(key["revoked_at"] is not None for key in keys)
    status = tandem("status", data_dir=tmp_path)
    assert status.returncode == 3


def test_a_stop_tells_a_stream_that_it_was_not_finished(tmp_path: Path) -> None:
    """Or it was finished in time; a cut is what it must not be."""
    with running_up(tmp_path) as up:
        with OpenAI(base_url=up.base_url, api_key=up.api_key, max_retries=0) as client:
            stream = client.completions.create(
                model=up.model,
                prompt=["one", "two", "three", "four"],
                n=8,
                max_tokens=1900,
                stream=True,
                extra_body={"ignore_eos": True},
            )
            finished = 0
            up.process.send_signal(signal.SIGTERM)
            try:
                for event in stream:
                    finished += event.choices[0].finish_reason is not None
            except APIError as error:
                assert error.code == "service_stopping"  # noqa: PT017 - either end is right
            else:
                assert finished == 32
        assert up.wait() == 0


def test_killing_up_leaves_no_child_and_the_folder_can_be_used_again(tmp_path: Path) -> None:
    with running_up(tmp_path) as up:
        children = up.children
        up.process.kill()
        assert _all_gone(children)
        up.wait()
    # The session file of the one that was killed is still there: nobody answers at its address.
    assert tandem("status", data_dir=tmp_path).returncode == 3
    with running_up(tmp_path) as again:
        keys = json.loads(tandem("keys", "list", "--json", data_dir=tmp_path).stdout)
        active = [(key["name"], key["role"]) for key in keys if key["revoked_at"] is None]
        assert active == [("up", "user"), ("up-operator", "operator")]
        assert again.stop() == 0


def test_a_provider_that_is_killed_comes_back_and_serves(tmp_path: Path) -> None:
    with running_up(tmp_path) as up:
        (first,) = up.provider_pids
        os.kill(first, signal.SIGKILL)
        up.until_provider_is_back(0)
        (second,) = up.provider_pids
        assert second != first
        with OpenAI(
            base_url=up.base_url, api_key=up.api_key, timeout=DEADLINE_S, max_retries=5
        ) as client:
            answer = client.completions.create(model=up.model, prompt="Once", max_tokens=2)
        assert answer.usage is not None
        assert answer.usage.completion_tokens > 0
        assert psutil.Process(second).is_running()
        assert up.stop() == 0
        assert len(up.stdout_lines) == 1


def test_everything_ends_when_the_coordinator_is_killed(tmp_path: Path) -> None:
    with running_up(tmp_path) as up:
        children = up.children
        os.kill(up.coordinator_pid, signal.SIGKILL)
        assert up.wait() == 1
        assert _all_gone(children)
        assert any("coordinator was killed by SIGKILL" in line for line in up.stderr_lines)


def test_two_providers_serve_the_same_model(tmp_path: Path) -> None:
    with running_up(tmp_path, "--providers=2") as up:
        assert len(up.provider_pids) == 2
        status = json.loads(tandem("status", "--json", data_dir=tmp_path).stdout)
        assert len(status["providers"]) == 2
        assert up.stop() == 0
