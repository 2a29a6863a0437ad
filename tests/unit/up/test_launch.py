from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from tandem.up.launch import UpOptions, launch_plan, prepare_logs, threads_per_provider

_OPTIONS = UpOptions(
    provider_arguments=["--model=tandem-demo", "--threads=3"],
    providers=2,
    ranks=1,
    parallelism="auto",
    host="0.0.0.0",
    port=None,
    tls="off",
    data_dir=Path("/data"),
    request_timeout_s=60.0,
    start_timeout_s=10.0,
    verbose=False,
)


def test_the_join_token_is_in_the_environment_and_in_no_command() -> None:
    plan = launch_plan(_OPTIONS, port=0, join_token="join-secret")
    for spec in (plan.coordinator, *plan.providers(8000)):
        assert spec.environment == {"TANDEM_JOIN_TOKEN": "join-secret"}
        assert not any("join-secret" in argument for argument in spec.command)


def test_providers_dial_the_port_that_the_coordinator_got() -> None:
    first, second = launch_plan(_OPTIONS, port=0, join_token="t").providers(8123)
    address = "--coordinator=http://127.0.0.1:8123"
    assert address in first.command
    assert address in second.command
    assert [first.name, second.name] == ["provider-1", "provider-2"]
    assert first.log_path == Path("/data/logs/provider-1.log")


def test_children_stop_with_their_parent_and_speak_json() -> None:
    plan = launch_plan(_OPTIONS, port=0, join_token="t")
    for spec in (plan.coordinator, *plan.providers(8000)):
        assert {"--stop-on-stdin-eof", "--json"} <= set(spec.command)


def test_each_provider_is_told_the_model_and_how_to_serve_it() -> None:
    for spec in launch_plan(_OPTIONS, port=0, join_token="t").providers(1):
        assert {"--model=tandem-demo", "--threads=3"} <= set(spec.command)


@pytest.mark.parametrize(("cores", "providers", "threads"), [(8, 2, 4), (8, 3, 2), (2, 5, 1)])
def test_cores_are_shared_out(
    monkeypatch: pytest.MonkeyPatch, cores: int, providers: int, threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)), raising=False)
    assert threads_per_provider(providers) == threads


def test_the_last_runs_logs_are_set_aside(tmp_path: Path) -> None:
    options = msgspec.structs.replace(_OPTIONS, data_dir=tmp_path)
    prepare_logs(options)
    (options.log_dir / "coordinator.log").write_text("old")
    prepare_logs(options)
    assert [path.name for path in options.log_dir.iterdir()] == ["coordinator.log.1"]
