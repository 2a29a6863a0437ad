"""`kill -9` of the provider: those who wait are told, the coordinator lives on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx2
import msgspec
from tests.integration.running import DEADLINE_S, Up, running_up

#: The promise to consumers; the HTTP client gives up on a silent stream after it.
TOLD_WITHIN_S = 5.0


def _stream(http: httpx2.Client, up: Up) -> list[str]:
    """The data of each event of a long stream; the provider is killed after the third."""
    data: list[str] = []
    request = {
        "model": up.model,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 1500,
        "stream": True,
        "ignore_eos": True,
    }
    with http.stream("POST", f"{up.base_url}/chat/completions", json=request) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            if line:
                data.append(line.removeprefix("data: "))
            if len(data) == 3:
                os.kill(up.provider_pids[0], signal.SIGKILL)
    return data


def test_a_killed_provider_ends_its_streams_with_an_error_and_serves_again(tmp_path: Path) -> None:
    with running_up(tmp_path) as up:
        headers = {"Authorization": f"Bearer {up.api_key}"}
        timeout = httpx2.Timeout(DEADLINE_S, read=TOLD_WITHIN_S)
        with httpx2.Client(headers=headers, timeout=timeout) as http:
            events = _stream(http, up)
            assert "[DONE]" not in events
            error = msgspec.json.decode(events[-1])["error"]
            assert error["code"] == "provider_lost"
            assert set(error) == {"message", "type", "param", "code"}
            assert http.get(up.base_url.replace("/v1", "/healthz")).status_code == 200

            refused = http.post(
                f"{up.base_url}/chat/completions",
                json={"model": up.model, "messages": [{"role": "user", "content": "hello"}]},
            )
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "no_provider_available"
            assert int(refused.headers["retry-after"]) > 0

            up.until_stderr("serves again")
            ready = up.base_url.replace("/v1", "/readyz")
            while http.get(ready).status_code != 200:
                pass  # its first heartbeat is on the way
            answer = http.post(
                f"{up.base_url}/chat/completions",
                json={
                    "model": up.model,
                    "messages": [{"role": "user", "content": "What is 3 + 4?"}],
                    "temperature": 0,
                },
            )
            assert answer.json()["choices"][0]["message"]["content"] == "3 + 4 = 7."
