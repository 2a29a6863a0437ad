"""Whatever a consumer sends, it gets an OpenAI error that names the field, and the server lives."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.integration.coordinator.conftest import Running

CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def _error(response: httpx2.Response) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = body["error"]
    return found


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"model": 1}, "model"),
        ({"model": ""}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        ({"messages": [{"role": "tool", "content": "1"}]}, "messages[0].role"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 1000}, "n"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 200}}, "logit_bias"),
        ({"seed": 2**64}, "seed"),
        ({"stop": [""]}, "stop[0]"),
        ({"stop": ["a"] * 257}, "stop"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"top_logprobs": 21, "logprobs": True}, "top_logprobs"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format.type"),
        ({"temprature": 1}, "temprature"),
        ({"min_p": 2}, "min_p"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_a_bad_field_is_named(http: httpx2.Client, change: dict[str, Any], param: str) -> None:
    response = http.post(CHAT, json=GOOD | change)
    assert response.status_code == 400
    error = _error(response)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"
    assert param in error["message"]


@pytest.mark.parametrize("missing", ["model", "messages"])
def test_a_missing_field_is_named(http: httpx2.Client, missing: str) -> None:
    response = http.post(CHAT, json={k: v for k, v in GOOD.items() if k != missing})
    assert response.status_code == 400
    assert _error(response)["param"] == missing


def test_null_is_the_same_as_absent(http: httpx2.Client) -> None:
    fields = (
        "temperature",
        "stop",
        "tools",
        "seed",
        "n",
        "stream",
        "logit_bias",
        "user",
        "max_tokens",
    )
    response = http.post(CHAT, json=GOOD | dict.fromkeys(fields))
    assert response.status_code == 404  # all is well but for the model, which nobody serves


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"hello",
        b"\xff\xfe",
        b'{"model": "\xff"}',
        b'{"model": "\\ud800"}',
        b"[" * 10**6,
    ],
)
def test_what_is_no_json_object_is_refused(http: httpx2.Client, body: bytes) -> None:
    response = http.post(CHAT, content=body)
    assert response.status_code == 400
    _error(response)


@pytest.mark.parametrize("prompt", [[], [1, "a"], [[1], 2], {"a": 1}, [-1], None])
def test_a_malformed_prompt_is_named(http: httpx2.Client, prompt: object) -> None:
    response = http.post("/v1/completions", json={"model": "m", "prompt": prompt})
    assert response.status_code == 400
    assert str(_error(response)["param"]).startswith("prompt")


def test_a_model_that_nobody_serves_is_404(http: httpx2.Client) -> None:
    response = http.post(CHAT, json=GOOD)
    assert response.status_code == 404
    assert _error(response)["code"] == "model_not_found"


def test_a_body_of_50_megabytes_gets_a_readable_413(http: httpx2.Client) -> None:
    response = http.post(CHAT, content=b" " * 50_000_000)
    assert response.status_code == 413
    assert _error(response)["code"] == "request_too_large"


def test_routes_and_methods_that_do_not_exist(http: httpx2.Client) -> None:
    response = http.get("/v1/nothing")
    assert response.status_code == 404
    assert _error(response)["code"] == "not_found"
    response = http.get(CHAT)
    assert response.status_code == 405
    assert "POST" in response.headers["allow"]
    _error(response)


@pytest.mark.parametrize(
    "authorization", [None, "", "Basic abc", "Bearer", "Bearer sk-tandem-wrong", "Bearer x" * 200]
)
def test_without_a_valid_key_everything_is_401(
    coordinator: Running, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    with httpx2.Client(base_url=coordinator.url, headers=headers) as http:
        for response in (
            http.post(CHAT, json=GOOD),
            http.get("/v1/models"),
            http.get("/v1/status"),
        ):
            assert response.status_code == 401
            assert _error(response)["code"] == "invalid_api_key"
            assert response.headers["www-authenticate"] == "Bearer"


def test_health_needs_no_key(coordinator: Running) -> None:
    with httpx2.Client(base_url=coordinator.url) as http:
        assert http.get("/healthz").status_code == 200
        assert http.get("/readyz").status_code == 503


def test_the_request_id_comes_back(http: httpx2.Client) -> None:
    mine = http.get("/v1/models", headers={"x-request-id": "mine-1"})
    assert mine.headers["x-request-id"] == "mine-1"
    made = {http.get("/v1/models").headers["x-request-id"] for _ in range(2)}
    assert len(made) == 2


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=10,
)
FIELDS = [
    "model",
    "messages",
    "stream",
    "n",
    "stop",
    "max_tokens",
    "logit_bias",
    "tools",
    "prompt",
    "x",
]
relaxed = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@relaxed
@given(changes=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4))
def test_no_json_brings_the_server_down(http: httpx2.Client, changes: dict[str, Any]) -> None:
    for route in (CHAT, "/v1/completions"):
        response = http.post(route, json=GOOD | changes)
        assert response.status_code in {400, 404}
        _error(response)


@relaxed
@given(body=st.binary(max_size=300))
def test_no_bytes_bring_the_server_down(http: httpx2.Client, body: bytes) -> None:
    response = http.post(CHAT, content=body)
    assert response.status_code == 400
    _error(response)
    assert http.get("/healthz").status_code == 200
