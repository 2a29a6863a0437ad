from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path

import pytest
from tests.support.fake_service import PROVIDER, FakeService
from tests.unit.cli.conftest import RunCli
from typer.testing import CliRunner

from tandem import __version__
from tandem.cli import app

_COMMANDS = [
    ["up"],
    ["coordinator"],
    ["provider"],
    ["pair"],
    ["smoke"],
    ["cluster", "status"],
    ["bench", "cluster"],
    ["bench", "engine"],
    ["bench", "link"],
    ["bench", "scenarios"],
    ["bench", "soak"],
    ["bench", "speculative"],
    ["chat"],
    ["run"],
    ["status"],
    ["drain"],
    ["usage"],
    ["accounts", "list"],
    ["accounts", "share"],
    ["accounts", "unshare"],
    ["keys", "create"],
    ["keys", "list"],
    ["keys", "revoke"],
    ["nodes", "approve"],
    ["nodes", "list"],
    ["nodes", "remove"],
    ["nodes", "revoke-token"],
    ["nodes", "token"],
    ["nodes", "tokens"],
    ["model", "create"],
    ["model", "inspect"],
    ["version"],
]


@pytest.mark.parametrize("command", _COMMANDS, ids=" ".join)
def test_help_shows_an_example_of_the_command(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.output
    assert f"tandem {' '.join(command)}" in result.output
    assert "--stop-on-stdin-eof" not in result.output


def test_every_command_is_tested_for_its_help() -> None:
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    names = [command.callback.__name__ for command in app.registered_commands if command.callback]
    count = len(names) + sum(
        len(group.registered_commands) for group in groups.values() if group is not None
    )
    assert count == len(_COMMANDS)


def test_version_in_both_forms(run_cli: RunCli, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("--version") == 0
    assert capsys.readouterr().out == f"tandem {__version__}\n"
    assert run_cli("version", "--json") == 0
    assert json.loads(capsys.readouterr().out)["tandem"] == __version__


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["up", "--providers", "0"],
        ["up", "--port", "70000"],
        ["up", "--dtype", "int3"],
        ["up", "--quantize", "int3"],
        ["up", "--device", "gpu"],
        ["provider", "--coordinator", "localhost:1", "--device", "cuda:first"],
        ["run"],
        ["run", "hi", "--temperature", "3"],
        ["provider"],
        ["provider", "--coordinator", "ftp://x", "--join-token", "t"],
        ["keys", "create", "up"],
        ["run", "  "],
        ["run", "hi", "--base-url", "ftp://x"],
    ],
    ids=" ".join,
)
def test_wrong_options_exit_with_2_and_say_why(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]
) -> None:
    assert run_cli(*arguments) == 2
    captured = capsys.readouterr()
    assert "error:" in captured.err.lower()
    assert captured.out == ""


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "mps:0", "CPU", ""])
def test_what_can_be_no_device_is_refused_at_once_with_those_that_can(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], device: str
) -> None:
    assert run_cli("up", f"--device={device}") == 2
    shown = capsys.readouterr().err
    assert "'--device'" in shown
    for named in ("auto", "cpu", "cuda:1", "mps"):
        assert named in shown


def test_nothing_to_connect_to_exits_with_3(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for command in (["run", "hi"], ["chat"], ["status"]):
        assert run_cli(*command, "--data-dir", str(tmp_path)) == 3
        assert "tandem up" in capsys.readouterr().err
    assert run_cli("run", "hi", "--base-url", "127.0.0.1:1") == 3
    assert "cannot connect" in capsys.readouterr().err


def test_run_streams_the_answer_to_stdout(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], service: FakeService
) -> None:
    assert run_cli("run", "hello", "--system", "be brief", "--seed", "7") == 0
    assert capsys.readouterr().out == "You said: hello\n"
    assert service.requests[0]["model"] == "echo"
    assert service.requests[0]["seed"] == 7
    assert service.requests[0]["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
    ]


def test_run_prints_one_line_of_json(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], service: FakeService
) -> None:
    assert run_cli("run", "hello", "--json") == 0
    (line,) = capsys.readouterr().out.splitlines()
    answer = json.loads(line)
    assert answer["text"] == "You said: hello"
    assert answer["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 1, "completion_tokens": 2}


def test_run_reads_the_prompt_from_stdin(
    run_cli: RunCli,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    service: FakeService,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("from a pipe"))
    assert run_cli("run", "-") == 0
    assert capsys.readouterr().out == "You said: from a pipe\n"


def test_errors_of_the_service_are_shown_by_their_message(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], service: FakeService
) -> None:
    assert run_cli("run", "fail") == 3
    assert "error: nobody can serve it (see `tandem status`)" in capsys.readouterr().err
    assert run_cli("run", "hello", "--api-key", "sk-wrong") == 2
    assert "unknown key (check --api-key" in capsys.readouterr().err


def test_chat_goes_on_after_a_failure_and_keeps_the_conversation(
    run_cli: RunCli,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    service: FakeService,
) -> None:
    lines = ["one", "", "fail", "/help", "/nonsense", "two", "/clear", "three", "/exit", "never"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(lines)))
    assert run_cli("chat", "--system", "s") == 0
    captured = capsys.readouterr()
    assert "/clear" in captured.err
    assert "no command /nonsense" in captured.err
    assert "nobody can serve it" in captured.err
    assert captured.out.split("\n") == [
        "You said: one",
        "",
        "You said: two",
        "You said: three",
        "",
    ]
    contents = [
        [message["content"] for message in request["messages"]]  # type: ignore[attr-defined]
        for request in service.requests
    ]
    assert contents == [
        ["s", "one"],
        ["s", "one", "You said: one", "fail"],
        ["s", "one", "You said: one", "two"],
        ["s", "three"],
    ]


def test_status_shows_models_providers_and_load(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], service: FakeService
) -> None:
    assert run_cli("status") == 0
    shown = capsys.readouterr().out
    assert f"{service.base_url}: ready" in shown
    assert re.search(r"laptop +echo +cuda:0 NVIDIA H100 +ready +2 +1", shown)
    assert run_cli("status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "base_url": service.base_url,
        "ready": True,
        "models": [{"id": "echo"}],
        "providers": [PROVIDER],
        "longest_stop_s": 0.0,
    }


def test_status_says_when_the_coordinator_stood_still(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], service: FakeService
) -> None:
    service.longest_stop_s = 1.25
    assert run_cli("status") == 0
    assert "stood still for 1.2 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ({"ready": False}, "not ready"),
        ({"ready": False, "draining": True}, "draining"),
        ({"ready": False, "draining": True, "in_flight": 0}, "drained"),
        ({"ready": False, "cluster_role": 1}, "rank 1"),
    ],
)
def test_status_says_why_a_provider_gets_nothing(
    state: dict[str, object],
    shown: str,
    run_cli: RunCli,
    capsys: pytest.CaptureFixture[str],
    service: FakeService,
) -> None:
    service.provider = PROVIDER | state
    assert run_cli("status") == 0
    assert re.search(rf"laptop +echo +cuda:0 NVIDIA H100 +{shown} ", capsys.readouterr().out)


def test_a_coordinator_that_names_no_device_has_none(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], service: FakeService
) -> None:
    service.provider = {name: value for name, value in PROVIDER.items() if name != "device"}
    assert run_cli("status") == 0
    assert re.search(r"laptop +echo +- +ready ", capsys.readouterr().out)


def test_status_of_a_service_that_cannot_serve_exits_with_3(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], service: FakeService
) -> None:
    service.ready = False
    assert run_cli("status") == 3
    assert "not able to serve now" in capsys.readouterr().out


def test_what_is_typed_and_is_no_text_is_shown_as_such(
    run_cli: RunCli, service: FakeService, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bytes of an argument that are no UTF-8 come as lone surrogates."""
    assert run_cli("run", "gr\udcfcn", "--json") == 0
    assert "gr\ufffdn" in json.loads(capsys.readouterr().out)["text"]


def test_a_name_that_is_no_text_is_refused_in_a_sentence(
    run_cli: RunCli, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run_cli("keys", "create", "gr\udcfcn", f"--data-dir={tmp_path}") == 2
    assert "'gr\\udcfcn' is not text in UTF-8" in capsys.readouterr().err
