"""Whom the browser of whoever sits at the machine may ask for."""

from __future__ import annotations

import pytest

from tandem.coordinator.api.browsers import OriginRules
from tandem.errors import OriginRefused

CHAT, STATUS = "/v1/chat/completions", "/v1/status"


def rules(*origins: str, keys: bool = False, host: str = "127.0.0.1") -> OriginRules:
    return OriginRules(
        origins or None, keys_required=keys, host=host, is_open=lambda path: path == CHAT
    )


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "app.localhost:8000"),
        *("192.168.1.10:8000", "coordinator:8000", "box.local", "box.lan", "[fe80::1%25eth0]:1"),
    ],
)
def test_names_that_nobody_elsewhere_can_give_away_are_ours(host: str) -> None:
    rules().check(None, host, CHAT)
    rules().check(f"http://{host}", host, STATUS)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example"])
def test_a_name_of_elsewhere_may_lead_here_and_is_refused(host: str) -> None:
    with pytest.raises(OriginRefused, match="--cors-origin"):
        rules().check(None, host, CHAT)
    rules(keys=True).check(None, host, CHAT)


def test_a_name_that_was_given_is_ours() -> None:
    rules(host="llm.example").check(None, "llm.example:8000", CHAT)
    rules("https://llm.example").check(None, "llm.example", CHAT)


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:3000", "file://", "https://127.0.0.1"],
)
def test_a_foreign_page_may_ask_nothing_without_a_key(origin: str) -> None:
    for path in (CHAT, STATUS):
        with pytest.raises(OriginRefused):
            rules().check(origin, "127.0.0.1:8000", path)
        assert not rules().allowed(origin, path)


def test_a_page_that_was_named_may_use_the_api_and_nothing_else() -> None:
    named = rules("http://localhost:3000")
    named.check("http://localhost:3000", "127.0.0.1:8000", CHAT)
    with pytest.raises(OriginRefused):
        named.check("http://localhost:3000", "127.0.0.1:8000", STATUS)
    with pytest.raises(OriginRefused):
        named.check("http://localhost:3001", "127.0.0.1:8000", CHAT)


def test_with_keys_any_page_may_use_the_api_and_nothing_else() -> None:
    found = rules(keys=True)
    assert found.allowed("https://app.example", CHAT)
    assert not found.allowed("https://app.example", STATUS)
    assert not rules("https://other.example", keys=True).allowed("https://app.example", CHAT)


def test_what_is_no_browser_needs_no_host() -> None:
    rules().check(None, None, CHAT)
