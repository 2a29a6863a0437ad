"""`tandem up --tls auto`, in a house whose environment names a proxy to the world outside."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator

import httpx2
import pytest
from openai import OpenAI
from tests.support.running_up import Up, outside_settings, running_up, tandem
from tests.support.waiting import DEADLINE_S

from tandem.client import read_session, split_pin
from tandem.security import split_pin as split_token
from tandem.up import tandem_command


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with (
        socket.create_server(("127.0.0.1", 0)) as nobody,
        pytest.MonkeyPatch.context() as environment,
    ):
        proxy = f"http://127.0.0.1:{nobody.getsockname()[1]}"  # takes connections, answers nothing
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"):
            environment.setenv(name, proxy)
        with running_up(tmp_path_factory.mktemp("up"), "--tls=auto") as running:
            yield running


def test_the_official_client_trusts_the_certificates_file(up: Up) -> None:
    trusted = ssl.create_default_context(cafile=up.ready["certificate"])
    transport = httpx2.Client(verify=trusted, trust_env=False)
    with OpenAI(
        base_url=up.base_url, api_key=up.api_key, timeout=DEADLINE_S, http_client=transport
    ) as client:
        answer = client.chat.completions.create(
            model=up.model, messages=[{"role": "user", "content": "Hi"}], max_tokens=4
        )
    assert up.base_url.startswith("https://")
    assert answer.choices[0].message.content


def test_tandems_own_commands_know_it_by_its_pin(up: Up) -> None:
    done = tandem("run", "Hello", "--max-tokens=4", data_dir=up.data_dir)
    assert done.returncode == 0, done.stderr
    session = read_session(up.data_dir)
    assert session is not None
    address, pin = split_pin(session.base_url)
    wrong = f"{address}#pin={'0' * 64}"
    assert pin is not None
    refused = tandem("status", f"--base-url={wrong}", "--api-key=x", data_dir=up.data_dir)
    assert refused.returncode == 3
    assert "another key than the pinned one" in refused.stderr


def test_keys_and_join_tokens_come_with_the_pin(up: Up) -> None:
    session = read_session(up.data_dir)
    assert session is not None
    _, pin = split_pin(session.base_url)
    created = tandem("keys", "create", "someone", data_dir=up.data_dir)
    assert f"#pin={pin}" in created.stderr
    token = tandem("nodes", "token", data_dir=up.data_dir).stdout
    assert split_token(token)[1] == pin


def test_a_provider_tells_another_service_nothing(up: Up) -> None:
    address = up.base_url.removesuffix("/v1")
    command = tandem_command(
        "provider", f"--coordinator={address}", f"--data-dir={up.data_dir / 'other'}"
    )
    environment = {**outside_settings(), "TANDEM_JOIN_TOKEN": f"join-x@{'0' * 64}"}
    with subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    ) as provider:
        assert provider.stderr is not None
        lines = iter(provider.stderr.readline, "")
        assert any("another key than the pinned one" in line for line in lines)
        provider.terminate()
