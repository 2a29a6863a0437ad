"""`tandem up` from the outside: the commands and clients that a running service answers."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import stat

import psutil
from openai import AsyncOpenAI, OpenAI
from tests.support.running_up import Up, tandem
from tests.support.waiting import DEADLINE_S

from tandem.client import read_session, session_path


def test_the_ready_line_says_all_that_a_script_needs(up: Up) -> None:
    assert set(up.ready) == {
        "event",
        "base_url",
        "api_key",
        "operator_key",
        "models",
        "processes",
    }
    assert up.ready["event"] == "ready"
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1", up.base_url)
    assert up.ready["models"] == ["tandem-demo"]
    assert len(up.provider_pids) == 1
    assert all(process.is_running() for process in up.children)


def test_the_session_file_is_there_and_private(up: Up) -> None:
    session = read_session(up.data_dir)
    assert session is not None
    assert session.base_url == up.base_url
    assert session.api_key == up.operator_key
    assert stat.S_IMODE(session_path(up.data_dir).stat().st_mode) == 0o600


def test_no_secret_is_in_a_command_line(up: Up) -> None:
    token = psutil.Process(up.provider_pids[0]).environ()["TANDEM_JOIN_TOKEN"]
    for process in up.children:
        assert token not in " ".join(process.cmdline())
        assert up.api_key not in " ".join(process.cmdline())
        assert up.operator_key not in " ".join(process.cmdline())


def test_the_official_client_streams_an_answer(up: Up) -> None:
    with OpenAI(base_url=up.base_url, api_key=up.api_key, timeout=DEADLINE_S) as client:
        stream = client.chat.completions.create(
            model=up.model,
            messages=[{"role": "user", "content": "Once upon a time"}],
            max_tokens=12,
            temperature=0,
            stream=True,
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text


def test_the_official_async_client_gets_several_answers_at_once(up: Up) -> None:
    async def ask(client: AsyncOpenAI, seed: int) -> str:
        answer = await client.chat.completions.create(
            model=up.model,
            messages=[{"role": "user", "content": "Once upon a time"}],
            max_tokens=8,
            seed=seed,
        )
        return answer.choices[0].message.content or ""

    async def scenario() -> list[str]:
        async with AsyncOpenAI(
            base_url=up.base_url, api_key=up.api_key, timeout=DEADLINE_S
        ) as client:
            return await asyncio.gather(*(ask(client, seed) for seed in range(4)))

    answers = asyncio.run(scenario())
    assert len(answers) == 4
    assert all(answers)


def test_run_answers_and_temperature_zero_repeats_itself(up: Up) -> None:
    arguments = ("run", "--temperature", "0", "--max-tokens", "8", "Once upon a time")
    first, second = (tandem(*arguments, data_dir=up.data_dir) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip()
    assert first.stdout == second.stdout


def test_run_as_json(up: Up) -> None:
    done = tandem("run", "--json", "--max-tokens", "4", "Hello", data_dir=up.data_dir)
    answer = json.loads(done.stdout)
    assert answer["model"] == "tandem-demo"
    assert answer["usage"]["completion_tokens"] <= 4


def test_a_model_that_nobody_serves_is_an_error_with_its_message(up: Up) -> None:
    done = tandem("run", "--model", "no-such", "Hello", data_dir=up.data_dir)
    assert done.returncode == 2
    assert "no-such" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_of_a_service_that_can_serve(up: Up) -> None:
    done = tandem("status", "--json", data_dir=up.data_dir)
    assert done.returncode == 0, done.stderr
    status = json.loads(done.stdout)
    assert status["ready"] is True
    assert [model["id"] for model in status["models"]] == ["tandem-demo"]
    (provider,) = status["providers"]
    assert provider["device"] == "cpu"
    assert "tandem-demo" in tandem("status", data_dir=up.data_dir).stdout


def test_a_second_up_on_the_same_folder_is_refused(up: Up) -> None:
    done = tandem("up", "--json", "--port=0", data_dir=up.data_dir)
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"pid {up.process.pid}" in done.stderr
    assert "--data-dir" in done.stderr
    assert read_session(up.data_dir) is not None


def test_a_device_that_is_not_there_is_named_with_those_that_are(up: Up) -> None:
    done = tandem("up", "--port=0", "--device=cuda:63", data_dir=up.data_dir / "other")
    assert done.returncode == 1
    assert re.search(r"device is 'cuda:63'; available here: auto,.* cpu", done.stderr)


def test_a_busy_port_is_refused(up: Up) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        done = tandem("up", f"--port={port}", data_dir=up.data_dir / "other")
    assert done.returncode == 2
    assert f"port {port}" in done.stderr
    assert "--port" in done.stderr


def test_a_model_that_does_not_exist_fails_at_once(up: Up) -> None:
    done = tandem("up", "--model=./no-such-folder", "--port=0", data_dir=up.data_dir / "none")
    assert done.returncode in (1, 2)
    assert "no-such-folder" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_sessions_key_is_listed_and_others_work_beside_it(up: Up) -> None:
    created = tandem("keys", "create", "alice", data_dir=up.data_dir)
    key = created.stdout.strip()
    assert key.startswith("sk-tandem-")
    listed = json.loads(tandem("keys", "list", "--json", data_dir=up.data_dir).stdout)
    active = {record["name"] for record in listed if record["revoked_at"] is None}
    assert active == {"up", "up-operator", "alice"}
    run = ("run", "--max-tokens", "2", "Hello", "--api-key", key)
    assert tandem(*run, data_dir=up.data_dir).returncode == 0
    assert tandem("keys", "revoke", "alice", data_dir=up.data_dir).returncode == 0
    refused = tandem(*run, data_dir=up.data_dir)
    assert refused.returncode == 2
    assert "TANDEM_API_KEY" in refused.stderr
