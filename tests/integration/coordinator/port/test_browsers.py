"""What browsers ask before a page may ask, and pages of elsewhere at a service without keys."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from tests.integration.coordinator.conftest import TIMEOUT_S, Running, running

CHAT = "/v1/chat/completions"
PAGE = {"Origin": "http://localhost:3000"}
ASKS = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}
BODY = b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}'


@pytest.fixture(scope="module")
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A coordinator without keys."""
    with (
        running(tmp_path_factory.mktemp("coordinator"), require_keys=False) as coordinator,
        httpx2.Client(base_url=coordinator.url, timeout=TIMEOUT_S) as client,
    ):
        yield client


def test_a_browser_that_asks_first_is_told_yes_without_a_key(coordinator: Running) -> None:
    with httpx2.Client(base_url=coordinator.url) as http:
        answer = http.options(CHAT, headers=PAGE | ASKS)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE["Origin"]
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == ASKS["Access-Control-Request-Headers"]
    assert int(answer.headers["access-control-max-age"]) > 0
    assert "origin" in answer.headers["vary"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/models", 200), ("POST", CHAT, 404)]
)
def test_answers_and_errors_are_for_the_page_to_read(
    http: httpx2.Client, method: str, path: str, status: int
) -> None:
    answer = http.request(method, path, headers=PAGE, content=BODY)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == PAGE["Origin"]
    assert "x-request-id" in answer.headers["access-control-expose-headers"]


def test_a_page_reads_why_its_key_is_refused(coordinator: Running) -> None:
    with httpx2.Client(base_url=coordinator.url) as http:
        answer = http.post(CHAT, headers=PAGE, content=BODY)
    assert answer.status_code == 401
    assert "access-control-allow-origin" in answer.headers


@pytest.mark.parametrize(
    "path", ["/v1/status", "/v1/providers", "/metrics", "/v1/providers/x/drain"]
)
def test_the_operators_routes_are_for_no_page(http: httpx2.Client, path: str) -> None:
    asked = http.options(path, headers=PAGE | ASKS)
    assert asked.status_code == 405
    for answer in (asked, http.get(path, headers=PAGE)):
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_who_is_no_page_is_told_nothing_of_it(http: httpx2.Client) -> None:
    answer = http.get("/v1/models")
    assert not any(name.startswith("access-control") for name in answer.headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example", "Content-Type": "text/plain"},
        {"Origin": "null"},
        {"Host": "evil.example:8000"},
        {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"},
    ],
)
def test_without_keys_a_page_of_elsewhere_is_refused(
    open_to_all: httpx2.Client, headers: dict[str, str]
) -> None:
    for path in (CHAT, "/v1/providers/x/drain"):
        answer = open_to_all.post(path, headers=headers, content=BODY)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "origin_refused"
        assert "--cors-origin" in answer.json()["error"]["message"]
    assert open_to_all.options(CHAT, headers=headers | ASKS).status_code == 403


def test_without_keys_programs_and_our_own_pages_are_served(open_to_all: httpx2.Client) -> None:
    own = str(open_to_all.base_url).rstrip("/")
    for headers in ({}, {"Origin": own}):
        assert open_to_all.post(CHAT, headers=headers, content=BODY).status_code == 404
        assert open_to_all.get("/v1/status", headers=headers).status_code == 200


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/v1/models", "/v1/status"])
def test_a_slash_at_the_end_changes_nothing(http: httpx2.Client, path: str) -> None:
    method = "GET" if path in {"/v1/models", "/v1/status"} else "POST"
    bare, slashed = (http.request(method, p, content=BODY) for p in (path, path + "/"))
    assert bare.status_code == slashed.status_code
    assert bare.status_code in {200, 400, 404}
    if bare.status_code == 404:
        assert slashed.json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("path", ["/v1//models", "/v1/v1/models", "/v1/models//", "/v1//"])
def test_other_paths_stay_unknown(http: httpx2.Client, path: str) -> None:
    assert http.get(path).status_code == 404
