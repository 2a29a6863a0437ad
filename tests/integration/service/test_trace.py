"""`X-Tandem-Trace`: whoever asks learns where the time of the request went; others see nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openai import OpenAI
from tests.support.running_up import Up
from tests.support.waiting import DEADLINE_S

from tandem.security import load_or_create_identity

TRACED = {"X-Tandem-Trace": "1"}


@pytest.fixture
def http(up: Up) -> Iterator[httpx2.Client]:
    with httpx2.Client(
        base_url=up.base_url,
        headers={"Authorization": f"Bearer {up.api_key}"},
        timeout=DEADLINE_S,
    ) as client:
        yield client


def body(up: Up, *, stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": "What is 3 + 4?"}]
    return {"model": up.model, "messages": messages, "temperature": 0, "stream": stream}


def in_order(trace: dict[str, Any]) -> bool:
    provider = trace["provider"]
    times = [trace[name] for name in ("received", "placed", "placed_last", "sealed")]
    times += [*provider, trace["answered"]]
    return len(provider) == 4 and times == sorted(times)


def test_a_whole_answer_has_it_in_a_header(up: Up, http: httpx2.Client) -> None:
    answer = http.post("/chat/completions", json=body(up, stream=False), headers=TRACED)
    trace = json.loads(answer.headers["x-tandem-trace"])
    assert in_order(trace)
    (reader,) = trace["readers"]
    assert reader == load_or_create_identity(up.data_dir / "nodes" / "provider-1").node_id


def test_a_stream_has_it_in_a_comment_before_its_end(up: Up, http: httpx2.Client) -> None:
    answer = http.post("/chat/completions", json=body(up, stream=True), headers=TRACED)
    *_, comment, done = [line for line in answer.text.splitlines() if line]
    assert done == "data: [DONE]"
    assert in_order(json.loads(comment.removeprefix(": tandem-trace ")))


def test_nobody_else_sees_it(up: Up, http: httpx2.Client) -> None:
    assert (
        "x-tandem-trace" not in http.post("/chat/completions", json=body(up, stream=False)).headers
    )
    assert "tandem-trace" not in http.post("/chat/completions", json=body(up, stream=True)).text


def test_the_official_client_takes_no_notice(up: Up) -> None:
    with OpenAI(base_url=up.base_url, api_key=up.api_key, timeout=DEADLINE_S) as client:
        chunks = client.chat.completions.create(**body(up, stream=True), extra_headers=TRACED)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == "3 + 4 = 7."
